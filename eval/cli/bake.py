"""`jaxalign bake`: improved heads inside an ordinary checkpoint."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from jaxalign.eval.terminal import Stages, say

from .groups import Projection, ProjectionOptions
from .options import FormatOption, JsonFile, OwnName, SettingsOf, UsageError, option
from .printing import write_json

if TYPE_CHECKING:
    from jaxalign.dual_encoder import DualEncoder
    from jaxalign.eval.tasks.methods import MethodOptions, Modality


@dataclass(frozen=True)
class Bake:
    """Put a method's projectors into a checkpoint for other programs.

    These load it as they load the original.

    The projectors are meant for images that find images and texts that find texts. Texts find images better
    with the original ones (appendix H of the IsoCLIP paper): keep the original for that, or bake one side
    with --image-only or --text-only. DST becomes a folder: for transformers (huggingface),
    sentence-transformers and open_clip one that they load, for openai a state dict model.pt, for
    big_vision a model.npz, or one of ours. It is written whole, read back, and its embeddings are
    compared with the method's, or it is not there at all; README.md in it says what was done to which
    model. What a format cannot express is refused.

    Examples:
      jaxalign bake openai/clip-vit-base-patch16 iso-b16
      jaxalign bake ViT-B-32.pt iso-b32 --format open_clip --band 150 50
      jaxalign bake openai/clip-vit-base-patch32 pca --method isoclip pca --class-names names.txt --image-only
      jaxalign bake google/siglip2-base-patch16-224 siglip2-iso --format jaxalign --linearize
    """

    original: Annotated[
        str, tyro.conf.Positional, option("The model whose projectors are improved.", "MODEL")
    ]
    dst: Annotated[
        Path, tyro.conf.Positional, option("Folder to write, or file where the format is one file.", "DST")
    ]
    method: Annotated[
        tuple[Literal["isoclip", "whitened", "pca"], ...],
        option("Method that the projectors take over; pca may follow one of the others.", "METHOD [pca]"),
    ] = ("isoclip",)
    format: FormatOption = "huggingface"
    image_only: Annotated[bool, option("Leave the text projector as it is.")] = False
    text_only: Annotated[bool, option("Leave the image projector as it is.")] = False
    linearize: Annotated[
        bool,
        option("Put the linearised projector in the place of SigLIP's MLP; jaxalign, big_vision only."),
    ] = False
    spec: SettingsOf = None
    name: OwnName = None
    projection: Projection = field(default_factory=ProjectionOptions)
    json: JsonFile = None

    def run(self) -> None:
        from jaxalign.baking import as_methods
        from jaxalign.conversion.baked_files import write_baked
        from jaxalign.conversion.libraries import check_place
        from jaxalign.weights.checkpoint import load

        if self.image_only and self.text_only:
            raise UsageError("--image-only and --text-only leave no head; expected one of them, or none")
        methods = as_methods(self.method)
        self._check_heeded(methods)
        check_place(self.dst)
        options = self.projection.method_options()
        with Stages().stage("bake", f"baking {self.original}", announced=False):
            model = load(self.original, spec=self.spec, name=self.name)
            heads, details = self._heads(model, methods, options)
            report = write_baked(
                model, heads, self.dst, self.format, methods=methods, details=", ".join(details)
            )
        write_json(self.json, report)
        for note in report["notes"]:
            say(f"Note: {note}")
        whose = " and ".join(f"{modality}s" for modality in heads)
        say(
            f"{report['name']}: projectors of {whose} ({', '.join(details) or '-'}) written"
            f" to {self.dst} for {self.format} and read back; embeddings of random inputs differ by"
            f" {report['difference']:.1e}"
        )

    def _check_heeded(self, methods: tuple[str, ...]) -> None:
        """Raise UsageError for an option of a method that is not asked for."""
        default = ProjectionOptions()
        for method, names in (("isoclip", ("band",)), ("pca", ("rank", "subspace", "class_names"))):
            for name in names:
                if method not in methods and getattr(self.projection, name) != getattr(default, name):
                    raise UsageError(
                        f"--{name.replace('_', '-')} is about {method}; got --method {' '.join(methods)}"
                    )

    def _heads(
        self, model: "DualEncoder", methods: tuple[str, ...], options: "MethodOptions"
    ) -> tuple[dict[str, Any], list[str]]:
        """The heads by modality, and their numbers in words."""
        from jaxalign.baking import baked_heads
        from jaxalign.eval.tasks.methods import find_method, subspace_of

        asked: tuple[Modality, ...] = ("image", "text")
        asked = asked[:1] if self.image_only else asked[1:] if self.text_only else asked
        details, subspace, heads = [], None, {}
        if "pca" in methods:
            pca = find_method("pca", model, "image", options)
            assert isinstance(pca.texts, tuple)  # a model's own texts, and none that were given
            subspace = subspace_of(pca, model.encode_text(pca.texts))
            details.append(f"rank {pca.rank}, {len(pca.texts)} texts of subspace {pca.subspace}")
        for modality in asked:
            band = None
            if methods[0] == "isoclip":
                band = find_method("isoclip", model, modality, options).band
                details.append(f"band {band[0]} {band[1]} for {modality}s" if band else "")
            chosen = {"band": band, "subspace": subspace, "linearize": self.linearize}
            heads |= baked_heads(model, methods, modalities=(modality,), **chosen)
        return heads, details
