"""Models on disk: a folder with `config.json` (every fact), `model.safetensors` and `tokenizer.json`."""

import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxalign.dual_encoder import DualEncoder
from jaxalign.errors import JaxalignError
from jaxalign.hub import CONFIG, fetch_checkpoint
from jaxalign.replacing import replaced_folder
from jaxalign.safetensors_files import read_safetensors, write_safetensors
from jaxalign.specs import MODELS, ModelSpec, find_spec, spec_from_json, spec_to_json
from jaxalign.stored import on_all_cores, read_parameters
from jaxalign.tensors import STORED_DTYPES, check_tensors, flatten, unflatten
from jaxalign.tokenization import TOKENIZER_FILES, load_tokenizer

WEIGHTS, VERIFICATION = "model.safetensors", "verify.json"
FORMAT = "jaxalign"
READERS = "jaxalign.checkpoint_readers"
WRITERS = "jaxalign.checkpoint_writers"
_FILES = (".safetensors", ".json", ".npz", ".pt", ".pth", ".bin")
_EMBEDDED = Path(__file__).parent / "embedded"


def load(
    name_or_path: str | os.PathLike, *, dtype: Any = jnp.float32, spec: str | ModelSpec | None = None
) -> DualEncoder:
    """A model by name, from disk or from the Hugging Face hub; parameters come back in float32.

    Looked for in this order: an embedded model of this name; a local folder or file, of `save`'s format or of
    one that a reader knows (transformers, open_clip, timm, big_vision, the originals' own files); a known
    model, by name, alias or hub id; any other repository of the hub. Readers are modules under the
    entry-point group `jaxalign.checkpoint_readers` with two functions: `recognises(path) -> bool` and
    `read(path, spec) -> DualEncoder`.

    Args:
      name_or_path: "emoji-clip", "openai/clip-vit-base-patch16", or a path.
      dtype: what the towers compute in: float32, bfloat16 or float16.
      spec: which known model a file is (a name that `find_spec` takes), or all its facts; by default found
        out from configuration and shapes.

    Raises:
      JaxalignError: an unknown or ambiguous name, a damaged or incomplete file, no network and nothing
        cached, or tensors that are missing, left over or of another shape (all of them named in one message).
    """
    facts = find_spec(spec) if isinstance(spec, str) else spec
    return replace(_find(os.fspath(name_or_path), facts), dtype=dtype)


def _find(name: str, spec: ModelSpec | None) -> DualEncoder:
    if name in MODELS and (_EMBEDDED / name).is_dir():
        return read_folder(_EMBEDDED / name)
    path = Path(name).expanduser()
    if path.exists():
        return _read_local(path, spec)
    return _read_hub(name, spec)


def _read_local(path: Path, spec: ModelSpec | None) -> DualEncoder:
    if is_model_folder(path):
        if spec is not None:
            raise JaxalignError(f"{path} holds its own facts; leave out spec {spec.name!r}")
        return read_folder(path)
    for entry in entry_points(group=READERS):
        reader = entry.load()
        if reader.recognises(path):
            return reader.read(path, spec)
    raise JaxalignError(
        f"{path} is in no format that can be read; expected a folder with {CONFIG} and {WEIGHTS} (jaxalign's,"
        " transformers' or timm's), one of open_clip, or a file .safetensors, .npz, .pt, .pth or .bin"
    )


def _read_hub(name: str, spec: ModelSpec | None) -> DualEncoder:
    """A known model, or any repository, by way of the hub's cache; its facts say which commit it is."""
    known, repository, revision = _find_repository(name)
    folder = fetch_checkpoint(repository, revision)
    model = _read_local(folder, spec or known)
    facts = {"source": repository, "revision": folder.name}  # the cache names a folder after its commit
    if model.name == folder.name:  # known by nothing else
        facts["name"] = repository
    return replace(model, spec=replace(model.spec, **facts))


def _find_repository(name: str) -> tuple[ModelSpec | None, str, str | None]:
    """The known model, the repository and the commit that `name` stands for; None for what is not known."""
    try:
        known = find_spec(name)
    except JaxalignError as error:
        if Path(name).suffix in _FILES:
            raise JaxalignError(
                f"there is no file {name}; expected a path, or a name that `jaxalign models` lists"
            ) from error
        if name.count("/") != 1 or name.startswith((".", "~", "/")):
            raise JaxalignError(f"{error} (and there is no such path)") from error
        return None, name, None
    if not known.hub_ids:
        raise JaxalignError(
            f"{known.name} is not on the hub; download {known.source} and load that file with"
            f" spec={known.name!r}"
        )
    matching = [repository for repository in known.hub_ids if repository.casefold() == name.casefold()]
    repository = (matching or known.hub_ids)[0]
    return known, repository, known.revision if repository == known.hub_ids[0] else None


def save(
    model: DualEncoder,
    path: str | os.PathLike,
    dtype: Any = None,
    *,
    check: Callable[[Path], None] | None = None,
) -> None:
    """Write `model` as a folder that `load` reads; it is complete or not there at all.

    Args:
      path: the folder. An earlier model in it is replaced, anything else is left alone with an error. A path
        that ends in `.npz` is written in big_vision's naming instead; it holds weights alone, so pass `load`
        the `spec` of any model but big_vision's own, or pictures are preprocessed as there.
      dtype: of the weights on disk: float16, bfloat16 or float32; by default as they are.
      check: called with the folder or file, complete but still under another name; what it raises undoes all.

    Raises:
      JaxalignError: a path that holds something else or cannot be written, or weights too large for `dtype`.
    """
    path = Path(path).expanduser()
    if dtype is not None and jnp.dtype(dtype).name not in STORED_DTYPES:
        raise JaxalignError(f"dtype is {jnp.dtype(dtype).name}; expected {', '.join(STORED_DTYPES)} or None")
    tensors = flatten(model.params)
    check_tensors({k: (v.shape, v.dtype.name) for k, v in tensors.items()}, model.config, "these parameters")
    _check_range(tensors, dtype)
    writer = {f".{e.name}": e for e in entry_points(group=WRITERS)}.get(path.suffix)
    if writer is not None:
        writer.load()(model, path, dtype, check)
        return
    _check_replaceable(path)
    with _replacing(path) as folder:
        _write_folder(model, tensors, folder, dtype)
        if check is not None:
            check(folder)


def _write_folder(model: DualEncoder, tensors: Mapping[str, Any], folder: Path, dtype: Any) -> None:
    config = {"format": FORMAT, "version": 1} | spec_to_json(model.spec)
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    write_safetensors(tensors, folder / WEIGHTS, dtype)
    for name, content in (model.tokenizer.files() if model.tokenizer else {}).items():
        (folder / name).write_bytes(content)


def read_folder(folder: Path) -> DualEncoder:
    """The model that `save` wrote into `folder`; raises JaxalignError where a part is missing or damaged."""
    spec = read_spec(folder)
    tensors = read_safetensors(folder / WEIGHTS)
    where = str(folder / WEIGHTS)
    check_tensors({k: (v.shape, v.dtype) for k, v in tensors.items()}, spec.towers, where)
    return DualEncoder(spec, unflatten(read_parameters(tensors)), load_tokenizer(spec, folder))


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


def _check_range(tensors: Mapping[str, Any], dtype: Any) -> None:
    if dtype is None:
        return
    limit = float(jnp.finfo(dtype).max)

    def fits(name: str) -> bool:
        x = np.asarray(tensors[name])  # no copy, and nothing to compile
        return bool(-limit <= x.min(initial=0) and x.max(initial=0) <= limit)

    large = [name for name, fit in zip(tensors, on_all_cores(fits, tensors), strict=True) if not fit]
    if large:  # or NaN, which is no number's equal or less
        raise JaxalignError(
            f"{', '.join(large[:5])}: NaN or values above {limit:g} do not fit {jnp.dtype(dtype).name}"
        )


def _check_replaceable(path: Path) -> None:
    if not path.exists() and path.suffix in _FILES:
        raise JaxalignError(
            f"{path} looks like a file; expected the name of a folder (formats for files: .npz)"
        )
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return
    if not is_model_folder(path):
        raise JaxalignError(f"{path} exists and is not a model that jaxalign saved; choose another path")
    others = sorted({p.name for p in path.iterdir()} - {CONFIG, WEIGHTS, VERIFICATION, *TOKENIZER_FILES})
    if others:
        raise JaxalignError(
            f"{path} also holds {', '.join(others)}, which would be lost; choose another path"
        )


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A new folder next to `path` that takes its place when the block ends well, and vanishes otherwise."""
    try:
        with replaced_folder(path) as folder:
            yield folder
    except OSError as error:
        raise JaxalignError(f"cannot write {path}: {error.strerror or error}") from error
