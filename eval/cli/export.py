"""`jaxalign export`: embeddings of the feature store for other programs."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from jaxalign.eval.terminal import say

from .groups import Embedding, Projection, ProjectionOptions
from .options import DatasetName, ModalityOption, SplitName, option
from .printing import check_file, check_folder, write_json

if TYPE_CHECKING:
    from jaxalign.dual_encoder import DualEncoder
    from jaxalign.eval.tasks.workspace import Workspace

_EITHER = tyro.conf.create_mutex_group(required=True)


@dataclass(frozen=True)
class Export(Embedding):
    """Write embeddings for NumPy, FAISS and other programs.

    Those of a split, projected by a method and of length one.

    --npy writes a folder with embeddings.npy, which NumPy maps into memory and ScaNN takes as it is; --faiss
    writes an index that FAISS searches, exact unless --faiss-index says otherwise. Ids come beside them, one
    JSON string on a line for each embedding. Features come out of the feature store; what it lacks is
    computed first. Images are exported, or with --modality text the captions of the split.

    Nothing half-written is left behind, an earlier export is replaced, and memory does not grow with the
    split, but for what FAISS keeps in its index.

    Examples:
      jaxalign export --npy gallery
      jaxalign export --method isoclip --band 0 32 --faiss gallery.faiss
      jaxalign export --model openai/clip-vit-base-patch16 --dataset sop --method isoclip --npy sop
      jaxalign export --dataset folder:photos --method pca --rank 64 --faiss photos.faiss --faiss-index HNSW32
    """

    npy: Annotated[
        Path | None, option("Folder for embeddings.npy, ids.jsonl and export.json.", "DIR", "none"), _EITHER
    ] = None
    faiss: Annotated[
        Path | None,
        option(
            "FAISS index; FILE.ids.jsonl and FILE.json come beside it. Needs the extra `index`.",
            "FILE",
            "none",
        ),
        _EITHER,
    ] = None
    faiss_index: Annotated[
        str, option("Kind of index, in FAISS's factory language: Flat, HNSW32, IVF1024,PQ32.", "FACTORY")
    ] = "Flat"
    npy_dtype: Annotated[
        Literal["float32", "float16"],
        option("Type of the numbers in embeddings.npy; float16 halves the file."),
    ] = "float32"
    dataset: DatasetName = "emoji-scenes"
    split: SplitName = ""
    modality: ModalityOption = "image"
    method: Annotated[
        str,
        option(
            "Method by which features become embeddings; see `jaxalign retrieve --help`.",
            "METHOD",
            "image-image or text-text, the model's own",
        ),
    ] = ""
    projection: Projection = field(default_factory=ProjectionOptions)

    def run(self) -> None:
        self._check()
        workspace, model = self.open()
        facts = self._write(workspace, model)
        write_json(self.results.json, facts)
        print_summary(facts)

    def _check(self) -> None:
        """What would fail at the end fails before any image is embedded."""
        from jaxalign.eval.export import check_npy_folder, require_faiss

        if self.npy is not None:
            check_npy_folder(self.npy)
            check_folder(self.npy.absolute().parent)
        if self.faiss is not None:
            require_faiss()
            check_file(self.faiss)

    def _write(self, workspace: "Workspace", model: "DualEncoder") -> dict[str, Any]:
        from jaxalign.eval.export import open_gallery, write_faiss, write_npy

        how: dict[str, Any] = {"method": self.method, "modality": self.modality}
        options = self.projection.method_options()
        gallery = open_gallery(workspace, model, self.dataset, self.split, options=options, **how)
        rows = gallery.shape[0]
        place = self.npy or self.faiss
        with workspace.stages.stage("export", f"{rows} embeddings to {place}", rows) as advance:
            if self.npy is not None:
                facts = write_npy(self.npy, gallery, dtype=self.npy_dtype, advance=advance)
            else:
                assert self.faiss is not None  # one of them is required
                facts = write_faiss(self.faiss, gallery, factory=self.faiss_index, advance=advance)
        return facts | {"path": str(place)}


def print_summary(facts: dict[str, Any]) -> None:
    """One line, and one more for what was left out."""
    say(
        f"{facts['model']}, {facts['dataset']}/{facts['split']}, {facts['method']}: {facts['rows']:,}"
        f" embeddings {facts['width']} wide in {facts['path']}"
    )
    if facts["left_out"]:
        say(f"{facts['left_out']:,} left out, unreadable")
