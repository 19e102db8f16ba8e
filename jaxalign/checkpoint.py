"""Models on disk: a folder with `config.json` (every fact), `model.safetensors` and `tokenizer.json`."""

import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxalign.dual_encoder import DualEncoder
from jaxalign.errors import JaxalignError, unknown_name
from jaxalign.models import TwoTowersConfig
from jaxalign.specs import MODELS, ModelSpec, spec_from_json, spec_to_json
from jaxalign.tensors import STORED_DTYPES, check_tensors, flatten, unflatten
from jaxalign.tokenization import Tokenizer, read_backend

CONFIG, WEIGHTS, TOKENIZER = "config.json", "model.safetensors", "tokenizer.json"
FORMAT = "jaxalign"
READERS = "jaxalign.checkpoint_readers"
WRITERS = "jaxalign.checkpoint_writers"
_EMBEDDED = Path(__file__).parent / "embedded"
_SAFETENSORS = {"F16": "float16", "BF16": "bfloat16", "F32": "float32"}


def load(name_or_path: str | os.PathLike, *, dtype: Any = jnp.float32) -> DualEncoder:
    """A model by name or from disk; parameters come back in float32.

    Looked for in this order: an embedded model of this name; a local folder or file of `save`'s format; a
    local folder or file of a format that a reader knows. Readers are modules under the entry-point group
    `jaxalign.checkpoint_readers` with two functions: `recognises(path) -> bool` and `read(path) ->
    DualEncoder`.

    Args:
      name_or_path: "emoji-clip", "emoji-siglip", or a path.
      dtype: what the towers compute in: float32, bfloat16 or float16.

    Raises:
      JaxalignError: an unknown name, a damaged or incomplete folder, or tensors that are missing, left over
        or of another shape than the configuration says (all of them named in one message).
    """
    return replace(_find(os.fspath(name_or_path)), dtype=dtype)


def _find(name: str) -> DualEncoder:
    if name in MODELS:
        return read_folder(_EMBEDDED / name)
    path = Path(name).expanduser()
    if path.exists():
        return _read_local(path)
    return _read_hub(name)


def _read_local(path: Path) -> DualEncoder:
    if is_model_folder(path):
        return read_folder(path)
    readers = entry_points(group=READERS)
    for entry in readers:
        reader = entry.load()
        if reader.recognises(path):
            return reader.read(path)
    formats = ", ".join(["jaxalign folder", *sorted(readers.names)])
    raise JaxalignError(
        f"{path} is in no format that can be read (tried: {formats}); expected a folder with {CONFIG} and"
        f" {WEIGHTS} that jaxalign saved, or a file or folder of one of these formats"
    )


def _read_hub(name: str) -> DualEncoder:
    """Where a hub id will be resolved to a local folder; until then, say what works."""
    if name.count("/") == 1 and not name.startswith((".", "~", "/")):
        raise JaxalignError(
            f"{name!r} is no local path, and hub ids are not supported yet; pass a local folder, or one of"
            f" the embedded models: {', '.join(MODELS)}"
        )
    raise unknown_name("model", name, MODELS, hint="(and there is no such path)")


def save(model: DualEncoder, path: str | os.PathLike, dtype: Any = None) -> None:
    """Write `model` as a folder that `load` reads; it is complete or not there at all.

    Args:
      path: the folder. An earlier model in it is replaced, anything else is left alone with an error. A path
        that ends in `.npz` is written in big_vision's naming instead.
      dtype: of the weights on disk: float16, bfloat16 or float32; by default as they are.

    Raises:
      JaxalignError: a path that holds something else or cannot be written, or weights too large for `dtype`.
    """
    path = Path(path).expanduser()
    if dtype is not None and jnp.dtype(dtype).name not in STORED_DTYPES:
        raise JaxalignError(f"dtype is {jnp.dtype(dtype).name}; expected {', '.join(STORED_DTYPES)} or None")
    tensors = _cast({k: np.asarray(v) for k, v in flatten(model.params).items()}, dtype)
    check_tensors({k: (v.shape, v.dtype.name) for k, v in tensors.items()}, model.config, "these parameters")
    writer = {f".{e.name}": e for e in entry_points(group=WRITERS)}.get(path.suffix)
    if writer is not None:
        writer.load()(replace(model, params=unflatten(tensors)), path)
        return
    _check_replaceable(path)
    with _replacing(path) as folder:
        _write_folder(model, tensors, folder)


def _write_folder(model: DualEncoder, tensors: Mapping[str, np.ndarray], folder: Path) -> None:
    from safetensors.numpy import save_file

    config = {"format": FORMAT, "version": 1} | spec_to_json(model.spec)
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    save_file({k: np.ascontiguousarray(v) for k, v in sorted(tensors.items())}, folder / WEIGHTS)
    (folder / WEIGHTS).chmod((folder / CONFIG).stat().st_mode)  # safetensors writes for the owner alone
    if model.tokenizer is not None:
        (folder / TOKENIZER).write_text(model.tokenizer.backend.to_str(), encoding="utf-8")


def read_folder(folder: Path) -> DualEncoder:
    """The model that `save` wrote into `folder`; raises JaxalignError where a part is missing or damaged."""
    spec = read_spec(folder)
    tensors = _read_tensors(folder / WEIGHTS, spec.towers)
    tokenizer = folder / TOKENIZER
    return DualEncoder(
        spec=spec,
        params=unflatten({k: jnp.asarray(v, jnp.float32) for k, v in tensors.items()}),
        tokenizer=make_tokenizer(spec, tokenizer) if tokenizer.exists() else None,
    )


def make_tokenizer(spec: ModelSpec, path: Path) -> Tokenizer:
    """The vocabulary of the `tokenizer.json` at `path`, laid out as `spec` says; raises if too large."""
    text, backend = spec.towers.text, read_backend(path)
    if backend.get_vocab_size() > text.vocabulary:
        raise JaxalignError(
            f"{path} has {backend.get_vocab_size()} tokens, the text tower {text.vocabulary};"
            " it belongs to another model"
        )
    return Tokenizer(backend, text.context, spec.start_token, text.end_token, spec.pad_token)


def is_model_folder(path: Path) -> bool:
    """Whether `path` is a folder that `save` wrote; other formats have a `config.json` too."""
    try:
        config = json.loads((path / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and config.get("format") == FORMAT


def read_spec(folder: Path) -> ModelSpec:
    """The facts in `config.json`; raises JaxalignError for what is missing, unknown or mistyped."""
    path = folder / CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise JaxalignError(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise JaxalignError(f"{path} is not JSON: {error}") from error
    if not isinstance(config, dict) or config.pop("format", None) != FORMAT:
        raise JaxalignError(f'{path} has no "format": "{FORMAT}"; it was written by something else')
    if config.pop("version", None) != 1:
        raise JaxalignError(f"{path} is of a later version; expected 1, update jaxalign")
    try:
        return spec_from_json(config)
    except JaxalignError as error:
        raise JaxalignError(f"{path}: {error}") from error


def _read_tensors(path: Path, config: TwoTowersConfig) -> dict[str, np.ndarray]:
    """Checked against what `config` needs before the first one is read."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - no mapping
            found = {
                k: (tuple(s.get_shape()), _SAFETENSORS.get(str(s.get_dtype()), str(s.get_dtype())))
                for k, s in slices.items()
            }
            check_tensors(found, config, str(path))
            return {name: file.get_tensor(name) for name in found}
    except OSError as error:
        raise JaxalignError(f"cannot read {path}: {error.strerror or error}") from error
    except SafetensorError as error:
        raise JaxalignError(f"{path} is cut off or damaged: {error}") from error


def _cast(tensors: dict[str, np.ndarray], dtype: Any) -> dict[str, np.ndarray]:
    if dtype is None:
        return tensors
    limit = float(jnp.finfo(dtype).max)
    large = [name for name, x in tensors.items() if not np.abs(x).max(initial=0) <= limit]  # NaN is not
    if large:
        raise JaxalignError(
            f"{', '.join(large[:5])}: NaN or values above {limit:g} do not fit {jnp.dtype(dtype).name}"
        )
    return {name: x.astype(jnp.dtype(dtype)) for name, x in tensors.items()}


def _check_replaceable(path: Path) -> None:
    if not path.exists() and path.suffix in (".safetensors", ".json", ".npz", ".pt", ".pth", ".bin"):
        raise JaxalignError(
            f"{path} looks like a file; expected the name of a folder (formats for files: .npz)"
        )
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return
    if not is_model_folder(path):
        raise JaxalignError(f"{path} exists and is not a model that jaxalign saved; choose another path")
    others = sorted({p.name for p in path.iterdir()} - {CONFIG, WEIGHTS, TOKENIZER})
    if others:
        raise JaxalignError(
            f"{path} also holds {', '.join(others)}, which would be lost; choose another path"
        )


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A new folder next to `path` that takes its place when the block ends well, and vanishes otherwise."""
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        partial.mkdir(parents=True)
        yield partial
        if path.exists():
            old = partial.with_suffix(".old")
            path.rename(old)
            partial.rename(path)
            shutil.rmtree(old)
        else:
            partial.rename(path)
    except OSError as error:
        raise JaxalignError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
