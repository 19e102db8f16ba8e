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

from jaxalign.arguments import check_kind, read_dtype
from jaxalign.dual_encoder import COMPUTE_DTYPES, DualEncoder
from jaxalign.errors import JaxalignError
from jaxalign.inputs.tokenization import TOKENIZER_FILES, load_tokenizer
from jaxalign.local_files import is_there, read_json
from jaxalign.replacing import replaced_folder
from jaxalign.specs import MODELS, ModelSpec, find_spec, spec_from_json, spec_to_json
from jaxalign.weights.availability import EMBEDDED
from jaxalign.weights.hub import CONFIG, fetch_checkpoint
from jaxalign.weights.identity import (
    Origin,
    claimed,
    facts_digest,
    own,
    published_as,
    renamed,
    unproven,
    weights_digest,
)
from jaxalign.weights.model_names import check_repository_name, no_such_file, nothing_there
from jaxalign.weights.safetensors_files import read_safetensors, write_safetensors
from jaxalign.weights.stored import StoredTensor, on_all_cores, read_parameters
from jaxalign.weights.tensors import STORED_DTYPES, check_tensors, flatten, unflatten

WEIGHTS, VERIFICATION = "model.safetensors", "verify.json"
FORMAT = "jaxalign"
READERS = "jaxalign.checkpoint_readers"
WRITERS = "jaxalign.checkpoint_writers"
# In config.json beside the facts of the model.
_OF_FILES = ("format", "version", "weights", "facts", "stacked")


def load(
    name_or_path: str | os.PathLike[str],
    *,
    dtype: Any = jnp.float32,
    spec: str | ModelSpec | None = None,
    name: str | None = None,
) -> DualEncoder:
    """A model by name, from disk or from the Hugging Face hub; parameters come back in float32.

    Looked for in this order: an embedded model of this name; a local folder or file, of `save`'s format or of
    one that a reader knows (transformers, open_clip, timm, big_vision, the originals' own files); a known
    model, by name, alias or hub id; any other repository of the hub. Readers are modules under the
    entry-point group `jaxalign.checkpoint_readers` with `ENDINGS`, of the files that they read, and three
    functions: `recognises(path) -> bool`, `read(path, spec) -> DualEncoder` and, for `load_captioner`,
    `read_captioner(path, tokenizer, normalize) -> Captioner`.

    What the record of a known model claims (name, source, commit, licence, paper, bands) is given to what was
    loaded from its repository, to files whose digest is known (`jaxalign.specs.published`), and to unchanged
    folders that `save` wrote of those. A file of any other weights is named after its path, however alike.

    Args:
      name_or_path: "emoji-clip", "openai/clip-vit-base-patch16", or a path.
      dtype: what the towers compute in: float32, bfloat16 or float16.
      spec: the known model (a name that `find_spec` takes) whose settings a file has where it does not say:
        activation, preprocessing, tokens. Sizes are always the file's. Or a `ModelSpec`, all its facts.
      name: what to call a model that is no known one.

    Raises:
      JaxalignError: an unknown or ambiguous name, a damaged or incomplete file, no network and nothing
        cached, settings that no file tells and those that contradict `spec`, a `name` that is a known
        model's, or tensors that are missing, left over or of another shape (all of them named in one
        message).

    Examples:
      >>> import jaxalign as ja
      >>> model = ja.load("emoji-clip")
      >>> model.encode_text(["a photo of a goose"]).shape
      (1, 64)
    """
    if not isinstance(name_or_path, str | os.PathLike):
        kind = type(name_or_path).__name__
        raise JaxalignError(f"name_or_path is a {kind}; expected the name of a model, or a path")
    if isinstance(spec, str):
        find_spec(spec)  # a wrong one is said before anything is fetched
    elif not isinstance(spec, ModelSpec | None):
        raise JaxalignError(f"spec is a {type(spec).__name__}; expected a known model's name, or a ModelSpec")
    dtype = read_dtype("dtype", dtype, COMPUTE_DTYPES)
    model = _find(os.fspath(name_or_path), spec)
    facts = renamed(model.spec, name)
    return replace(model, spec=facts, dtype=dtype, origin=Origin.of(facts, model.params))


def _find(name: str, spec: str | ModelSpec | None) -> DualEncoder:
    if not name:
        raise JaxalignError("name_or_path is empty; expected the name of a model, or a path")
    if name in MODELS and (EMBEDDED / name).is_dir():
        _check_no_spec(name, spec)
        return read_folder(EMBEDDED / name)
    path = Path(name)
    try:
        path = path.expanduser()
    except RuntimeError as error:  # ~user, who has no home
        raise nothing_there(name) from error
    return _read_local(path, spec) if is_there(path) else _read_hub(name, spec)


def _read_local(path: Path, spec: str | ModelSpec | None) -> DualEncoder:
    if is_model_folder(path):
        _check_no_spec(str(path), spec)
        return read_folder(path)
    for reader in readers():
        if reader.recognises(path):
            return reader.read(path, spec)
    *endings, last = _endings()
    raise JaxalignError(
        f"{path} is in no format that can be read; expected a folder with {CONFIG} and {WEIGHTS} (jaxalign's,"
        f" transformers' or timm's), one of open_clip, or a file {', '.join(endings)} or {last}"
    )


def readers() -> list[Any]:
    """The modules that read other formats than `save`'s."""
    return [entry.load() for entry in entry_points(group=READERS)]


def _endings() -> list[str]:
    """How files with weights end that some reader knows."""
    return list(dict.fromkeys(ending for reader in readers() for ending in reader.ENDINGS))


def _check_no_spec(where: str, spec: str | ModelSpec | None) -> None:
    if spec is not None:
        said = spec if isinstance(spec, str) else spec.name
        raise JaxalignError(f"{where} holds its own facts; leave out spec {said!r}")


def _read_hub(name: str, spec: str | ModelSpec | None) -> DualEncoder:
    """A known model, or any repository, by way of the hub's cache; its facts say which commit it is.

    The record's band is that of the weights at the commit that it pins, so another commit has none. Of
    further repositories of a record no commit is pinned: they are taken at the record's word.
    """
    known, repository, pinned = find_repository(name)
    try:
        folder = fetch_checkpoint(repository, pinned)
    except JaxalignError as error:
        if known is not None:
            raise
        raise JaxalignError(f"{nothing_there(name)}; as a repository: {error}") from error
    commit = folder.name  # the cache names a folder after it
    model = _read_local(folder, known if spec is None else spec)
    if known is not None and spec is None:
        facts = claimed(model.spec, known)
        facts = facts if pinned in (None, commit) else replace(facts, band=None, text_band=None)
    elif model.name == commit:  # known by nothing else
        facts = own(model.spec, repository, repository)
    else:
        facts = model.spec
    return replace(model, spec=replace(facts, source=repository, revision=commit))


def find_repository(name: str) -> tuple[ModelSpec | None, str, str | None]:
    """The known model, the repository and the commit that `name` stands for; None for what is not known."""
    if Path(name).suffix in (".json", *_endings()):
        raise no_such_file(name)
    try:
        known = find_spec(name)
    except JaxalignError as error:
        check_repository_name(name)
        if name.count("/") != 1 or name.startswith((".", "~", "/")):
            raise nothing_there(name) from error
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
    path: str | os.PathLike[str],
    dtype: Any = None,
    *,
    check: Callable[[Path], None] | None = None,
) -> None:
    """Write `model` as a folder that `load` reads; it is complete or not there at all.

    Args:
      path: the folder. An earlier model in it is replaced, anything else is left alone with an error. A path
        that ends in `.npz` is written in big_vision's naming instead; it holds weights alone, so pass `load`
        the `spec` of any model but big_vision's own, or images are preprocessed as there. What was loaded as
        a known model is saved as that while its parameters and settings are those that were loaded; changed
        ones are a model of their own, named after `path`.
      dtype: of the weights on disk: float16, bfloat16 or float32; by default as they are.
      check: called with the folder or file, complete but still under another name; what it raises undoes all.

    Raises:
      JaxalignError: a path that holds something else or cannot be written, or weights too large for `dtype`.

    Examples:
      >>> import jaxalign as ja
      >>> from tempfile import TemporaryDirectory
      >>> with TemporaryDirectory() as folder:
      ...     ja.save(ja.load("emoji-clip"), f"{folder}/mine")
      ...     again = ja.load(f"{folder}/mine")
      >>> again.name
      'emoji-clip'
    """
    check_kind("model", model, DualEncoder, "what jaxalign.load gives")
    path = Path(path).expanduser()
    dtype = dtype if dtype is None else read_dtype("dtype", dtype, STORED_DTYPES)
    tensors = flatten(model.params)
    check_tensors({k: (v.shape, v.dtype.name) for k, v in tensors.items()}, model.config, "these parameters")
    _check_range(tensors, dtype)
    writer = {f".{e.name}": e for e in entry_points(group=WRITERS)}.get(path.suffix)
    if writer is not None:
        writer.load()(model, path, dtype, check)
        return
    _check_replaceable(path)
    with _replacing(path) as folder:
        write_folder(model, tensors, folder, dtype, path)
        if check is not None:
            check(folder)


def write_folder(
    model: DualEncoder, tensors: Mapping[str, Any], folder: Path, dtype: Any, path: Path
) -> None:
    """The files, in `folder`; once complete it is moved to `path`."""
    facts = unproven(model.spec, path)
    write_safetensors(tensors, folder / WEIGHTS, dtype)
    config = {"format": FORMAT, "version": 1}
    if facts != model.spec and model.origin and model.origin.vouches_for(model.spec, model.params):
        facts = model.spec
        config["weights"] = weights_digest(read_safetensors(folder / WEIGHTS))
        config["facts"] = facts_digest(facts)
    if model.stacked:
        config["stacked"] = list(model.stacked)
    config |= spec_to_json(facts)
    (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    for name, content in (model.tokenizer.files() if model.tokenizer else {}).items():
        (folder / name).write_bytes(content)


def read_folder(folder: Path) -> DualEncoder:
    """The model that `save` wrote into `folder`; raises JaxalignError where a part is missing or damaged.

    It is the known model that its `config.json` names if weights and facts are still those that were saved,
    by the digests there, or are the published file's and the record's. Otherwise they are somebody's own.
    """
    config, spec = _read_config(folder)
    tensors = read_safetensors(folder / WEIGHTS)
    where = str(folder / WEIGHTS)
    check_tensors({k: (v.shape, v.dtype) for k, v in tensors.items()}, spec.towers, where)
    changed = unproven(spec, folder)
    if changed != spec and not _is_as_saved(folder, config, spec, tensors):
        spec = changed
    params = unflatten(read_parameters(tensors))
    stacked = tuple(name for name in ("img", "txt") if name in config.get("stacked", []))
    return DualEncoder(spec, params, load_tokenizer(spec, folder), stacked=stacked)


def _is_as_saved(
    folder: Path, config: Mapping[str, Any], spec: ModelSpec, tensors: Mapping[str, StoredTensor]
) -> bool:
    """Whether weights and facts in `folder` are those of the known model that `spec` describes."""
    if "weights" in config:
        return config.get("facts") == facts_digest(spec) and config["weights"] == weights_digest(tensors)
    records = [record for record in MODELS.values() if record == spec]
    return published_as(folder / WEIGHTS, records) is not None


def is_model_folder(path: Path) -> bool:
    """Whether `path` is a folder that `save` wrote; other formats have a `config.json` too."""
    try:
        config = read_json(path / CONFIG)
    except JaxalignError:
        return False
    return isinstance(config, dict) and config.get("format") == FORMAT


def _read_config(folder: Path) -> tuple[dict[str, Any], ModelSpec]:
    """What `config.json` says of the files, and the facts of the model."""
    path = folder / CONFIG
    config = read_json(path)
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise JaxalignError(f'{path} has no "format": "{FORMAT}"; it was written by something else')
    if config.get("version") != 1:
        raise JaxalignError(f"{path} is of a later version; expected 1, update jaxalign")
    of_files = {name: config.pop(name) for name in _OF_FILES if name in config}
    if not isinstance(of_files.get("stacked", []), list):
        raise JaxalignError(f"{path}: stacked is {of_files['stacked']!r:.40}; expected a list of towers")
    try:
        return of_files, spec_from_json(config)
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
    if not is_there(path) and path.suffix in (".json", *_endings()):
        raise JaxalignError(
            f"{path} looks like a file; expected the name of a folder (formats for files: .npz)"
        )
    if not is_there(path) or (path.is_dir() and not any(path.iterdir())):
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
