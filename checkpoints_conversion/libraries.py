"""Models written as other libraries have them, and read back before they are in place.

The configuration is written first and read as `jaxalign.load` reads it: whatever the model has and it does
not say is what the library cannot express, and is refused by name. Then come the tensors, out of the same
rules by which they are read (`jaxalign.conversion.inverse`).
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import jax.numpy as jnp

from jaxalign.dual_encoder import DualEncoder
from jaxalign.errors import JaxalignError, unknown_name
from jaxalign.local_files import is_there
from jaxalign.replacing import replaced_folder
from jaxalign.weights.checkpoint import WEIGHTS as OUR_WEIGHTS
from jaxalign.weights.checkpoint import write_folder
from jaxalign.weights.hub import CONFIG, OPEN_CLIP_CONFIG, OPEN_CLIP_WEIGHTS, PREPROCESSOR, WEIGHTS
from jaxalign.weights.safetensors_files import write_safetensors
from jaxalign.weights.stored import held
from jaxalign.weights.tensors import flatten

from . import writing
from .checkpoint_files import find_files
from .comparing import compare
from .configs.written_huggingface import huggingface_config, huggingface_preprocessing
from .configs.written_open_clip import open_clip_config
from .configs.written_tokens import tokenizer_files
from .engine import Format
from .facts import Facts
from .formats import FORMATS
from .formats.huggingface import HF_SIGLIP
from .formats.timm_trunks import PE_TIMM
from .inverse import source_tensors
from .reading_back import differences, read_back
from .spec_choice import choose_spec
from .torch_writing import write_torch

_NAMED = 5  # differences that one message names
_MODULE = "0_CLIPModel"  # sentence-transformers' folder for its first module


@dataclass(frozen=True)
class Written:
    """What lies in the new folder.

    Attributes:
      place: what `jaxalign.load` is given to read it.
      weights: the file of the tensors.
      tensors: what that holds, before it was cast.
      is_told: whether a configuration says what the model is; otherwise whoever loads it has to.
      notes: what is not there, with the reason.
    """

    place: Path
    weights: Path
    tensors: Mapping[str, Any]
    is_told: bool = True
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Library:
    """How a library keeps a checkpoint.

    Attributes:
      weights: name of the file with the tensors.
      write: writes it.
      describe: the configuration of a model in a format, by file; and what is not there, with the reason.
      folder: below the one that is written.
      beside: further files there, by name.
      refused: what its code cannot compute and no configuration shows, in words.
    """

    weights: str
    write: Callable[[Mapping[str, Any], Path, Any], None]
    describe: Callable[[DualEncoder, Format], tuple[dict[str, bytes], tuple[str, ...]]] | None
    folder: str = ""
    beside: Mapping[str, Any] = field(default_factory=dict)
    refused: Callable[[DualEncoder], list[str]] = lambda model: []

    def __call__(self, name: str, model: DualEncoder, folder: Path, dtype: Any) -> Written:
        """Write `model` into `folder`; `name` is the library's.

        Raises:
          JaxalignError: what the library cannot express.
        """
        place = folder / self.folder
        place.mkdir(exist_ok=True)
        for file, content in self.beside.items():
            (folder / file).write_bytes(_as_json(content))
        format, tensors = _find_format(name, model)
        notes: tuple[str, ...] = ()
        if self.describe is not None:
            files, notes = self.describe(model, format)
            for file, content in files.items():
                (place / file).write_bytes(content)
        (place / self.weights).touch()  # by which the configuration beside it is found
        facts = find_files(place).facts if self.describe is not None else Facts()
        shapes = {tensor: held(source) for tensor, source in tensors.items()}
        found = choose_spec(format, shapes, facts, model.name, is_torchscript=self.describe is None)
        _refuse([*self.refused(model), *differences(model.spec, found)])
        self.write(tensors, place / self.weights, dtype)
        is_told = self.describe is not None
        at = place if is_told else place / self.weights
        return Written(at, place / self.weights, tensors, is_told, notes)


def write_model(
    model: DualEncoder,
    dst: Path,
    to: str,
    dtype: str = "float32",
    finish: Callable[[Path, DualEncoder, Written, dict[str, Any]], None] | None = None,
) -> tuple[str, ...]:
    """Write `model` as a new folder of the library `to`, whole and read back, or not at all.

    Args:
      to: of `LIBRARIES`.
      dtype: of the weights.
      finish: called with the folder, the model that was read back, what was written and the checksums of all
        tensors, while the folder still has another name; what it raises undoes all.

    Returns:
      What is not there or otherwise than in the original, with the reason.

    Raises:
      JaxalignError: another name, a `dst` that is there or cannot be written, what the library cannot
        express, or a disk that gives back something else.
    """
    if to not in LIBRARIES:
        raise unknown_name("format", to, LIBRARIES)
    check_place(dst)
    try:
        with replaced_folder(dst) as folder:
            try:
                written = LIBRARIES[to](to, model, folder, dtype)
            except _InexpressibleError as error:
                raise JaxalignError(f"{to} cannot express what {model.name} needs: {error}") from error
            checksums = compare(written.weights, written.tensors, dtype)
            again = read_back(model, written.place, dtype, is_told=written.is_told)
            if again.spec.pipeline != model.spec.pipeline:
                was, now = model.spec.pipeline, again.spec.pipeline
                note = f"images are prepared by {now}, for the original by {was}"
                written = replace(written, notes=(*written.notes, note))
            if finish is not None:
                finish(folder, again, written, checksums)
    except OSError as error:
        raise JaxalignError(f"cannot write {dst}: {error.strerror or error}") from error
    return written.notes


def check_place(dst: Path) -> None:
    """Raise JaxalignError where something is that would be lost."""
    if is_there(dst) and not (dst.is_dir() and not any(dst.iterdir())):
        raise JaxalignError(f"{dst} exists; choose another path, or take it away")


class _InexpressibleError(JaxalignError):
    """What a library has no place or no word for."""


def _refuse(problems: list[str]) -> None:
    if problems:
        more = ", ..." if len(problems) > _NAMED else ""
        raise _InexpressibleError("; ".join(problems[:_NAMED]) + more)


def _find_format(to: str, model: DualEncoder) -> tuple[Format, Mapping[str, Any]]:
    """The library's format that has a place for all parameters, and the tensors in it."""
    model.require_text()
    problems: dict[str, list[str]] = {}
    for format in (format for format in FORMATS if to in format.libraries):
        tensors, left = source_tensors(format, flatten(_with_head_bias(model, format).params))
        if not left and format.recognises(tensors):
            return format, tensors
        lacking = [f"a tensor {name}" for name in sorted(set(format.telling) - set(tensors))]
        problems[f"{format.name} has no place for"] = left
        problems[f"{format.name} needs"] = lacking if not left else []
    nearest = min((said for said in problems.items() if said[1]), key=lambda said: len(said[1]))
    more = ", ..." if len(nearest[1]) > _NAMED else ""
    if all(path.startswith("img/head/") for path in nearest[1]):
        more += ", a linear head behind the pool; jaxalign and big_vision have one"
    raise _InexpressibleError(f"{nearest[0]} {', '.join(nearest[1][:_NAMED])}{more}")


def _with_head_bias(model: DualEncoder, format: Format) -> DualEncoder:
    """PE's head has no bias, but timm's has: zeros, which reading takes away again."""
    head = model.params["img"].get("head", {})
    if format is not PE_TIMM or "kernel" not in head or "bias" in head:
        return model
    bias = jnp.zeros(head["kernel"].shape[1])
    return replace(
        model, params={**model.params, "img": {**model.params["img"], "head": {**head, "bias": bias}}}
    )


def _as_json(content: Any) -> bytes:
    return (json.dumps(content, indent=2, ensure_ascii=False) + "\n").encode()


def _tokenizer(model: DualEncoder, cleans: bool) -> tuple[dict[str, bytes], tuple[str, ...]]:
    if model.tokenizer is None:
        return {}, ("no tokenizer: none came with the model",)
    try:
        masks = model.require_text().causal
        return tokenizer_files(model.tokenizer, cleans=cleans, masks=masks), ()
    except JaxalignError as error:
        return {}, (f"no tokenizer: {error}",)


def _describe_huggingface(model: DualEncoder, format: Format) -> tuple[dict[str, bytes], tuple[str, ...]]:
    kind = "siglip" if format is HF_SIGLIP else "clip"
    files, notes = _tokenizer(model, cleans=True)
    files[CONFIG] = _as_json(huggingface_config(model, kind))
    preprocessing = huggingface_preprocessing(model, kind)
    if preprocessing is None:
        return files, (*notes, "no preprocessing: nothing says how its images are prepared")
    return files | {PREPROCESSOR: _as_json(preprocessing)}, notes


def _describe_sentences(model: DualEncoder, format: Format) -> tuple[dict[str, bytes], tuple[str, ...]]:
    files, notes = _describe_huggingface(model, format)
    _refuse(list(notes))  # it makes no model without them
    return files, ()


def _describe_open_clip(model: DualEncoder, format: Format) -> tuple[dict[str, bytes], tuple[str, ...]]:
    try:
        config = open_clip_config(model, has_trunk="timm" in format.name)
    except JaxalignError as error:
        raise _InexpressibleError(str(error)) from error
    files: dict[str, bytes] = {}
    notes: tuple[str, ...] = ()
    if "hf_tokenizer_name" in config["model_cfg"]["text_cfg"]:
        files, notes = _tokenizer(model, cleans=False)
    return files | {OPEN_CLIP_CONFIG: _as_json(config)}, notes


def _refused_by_openai(model: DualEncoder) -> list[str]:
    both = {"image": model.config.image, "text": model.config.text}
    wide = [
        f"{which} mlp hidden {tower.mlp_hidden}, there {4 * tower.width}"
        for which, tower in both.items()
        if getattr(tower, "mlp_hidden", None) not in (None, 4 * tower.width)
    ]
    others = {
        "logit bias True, there False": model.config.logit_bias,
        "another vocabulary than CLIP's": model.spec.vocabulary != "clip-bpe",
    }
    return [*wide, *(what for what, present in others.items() if present)]


def _safetensors(tensors: Mapping[str, Any], path: Path, dtype: Any) -> None:
    write_safetensors(tensors, path, dtype, metadata={"format": "pt"})


def _write_ours(name: str, model: DualEncoder, folder: Path, dtype: Any) -> Written:
    tensors = flatten(model.params)
    write_folder(model, tensors, folder, dtype, folder)
    return Written(folder, folder / OUR_WEIGHTS, tensors)


def _write_big_vision(name: str, model: DualEncoder, folder: Path, dtype: Any) -> Written:
    _refuse(writing.lacking(model))
    path = folder / "model.npz"
    writing.write(model, path, dtype)
    notes = ("no tokenizer and no preprocessing: the file holds weights alone",)
    return Written(path, path, writing.as_stored(model), is_told=False, notes=notes)


_HUGGINGFACE = Library(WEIGHTS[0], _safetensors, _describe_huggingface)
_MODULES = [{"idx": 0, "name": "0", "path": _MODULE, "type": "sentence_transformers.models.CLIPModel"}]
LIBRARIES: dict[str, Callable[[str, DualEncoder, Path, Any], Written]] = {
    "jaxalign": _write_ours,
    "big_vision": _write_big_vision,
    "huggingface": _HUGGINGFACE,
    "open_clip": Library(OPEN_CLIP_WEIGHTS[0], _safetensors, _describe_open_clip),
    "openai": Library("model.pt", write_torch, None, refused=_refused_by_openai),
    "sentence-transformers": replace(
        _HUGGINGFACE, describe=_describe_sentences, folder=_MODULE, beside={"modules.json": _MODULES}
    ),
}
