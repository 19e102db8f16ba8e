"""Files and folders that checkpoints come in: which file holds the weights, and which the facts."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from jaxalign.errors import JaxalignError
from jaxalign.weights.hub import ADAPTER, CONFIG, INDEX, OPEN_CLIP_CONFIG
from jaxalign.weights.hub import OPEN_CLIP_WEIGHTS as OPEN_CLIP_WEIGHTS
from jaxalign.weights.hub import WEIGHTS as WEIGHTS
from jaxalign.weights.safetensors_files import read_safetensors
from jaxalign.weights.stored import StoredTensor

from .configs.huggingface import read_huggingface
from .configs.json_object import read_json
from .configs.open_clip import read_open_clip
from .configs.timm import read_timm
from .facts import Facts
from .formats import wrapper_prefix
from .npz_files import read_npz
from .torch_files import read_torch

READERS: dict[str, Callable[[Path], dict[str, StoredTensor]]] = {
    ".safetensors": read_safetensors,
    ".npz": read_npz,
    ".pt": read_torch,
    ".pth": read_torch,
    ".bin": read_torch,
}
ENDINGS = tuple(READERS)
_PREFIXES = ("module.", "_orig_mod.")  # DistributedDataParallel's and torch.compile's, in any order


@dataclass(frozen=True)
class CheckpointFiles:
    """A checkpoint on disk.

    Attributes:
      weights: the file with the tensors, or the index of several.
      facts: what the configuration beside it says; empty where there is none.
      folder: where tokenizer files would be.
    """

    weights: Path
    facts: Facts
    folder: Path


def is_checkpoint(path: Path) -> bool:
    """Whether `path` is a file, or a folder with a file, of a kind that can be read."""
    if path.is_dir():
        return any(p.suffix in READERS or p.name.endswith(INDEX) for p in path.iterdir())
    return path.suffix in READERS or path.name.endswith(INDEX)


def find_files(path: Path, with_facts: bool = True) -> CheckpointFiles:
    """The files at `path`, a folder or a weights file (whose folder's configuration then counts).

    Args:
      with_facts: False where all facts are known, and no configuration is looked at.

    Raises:
      JaxalignError: a folder without weights, with several or with an adapter to them, or a configuration
        that is damaged or unknown.
    """
    if not path.is_dir():
        is_usual = path.name in OPEN_CLIP_WEIGHTS + WEIGHTS
        facts = _read_facts(path.parent, path.name) if is_usual and with_facts else Facts()
        return CheckpointFiles(path, facts, path.parent)
    names = {p.name for p in path.iterdir() if not p.is_dir()}
    if ADAPTER in names:
        raise JaxalignError(
            f"{path} has an {ADAPTER}, and transformers adds that adapter to the model; expected one that it"
            " is merged into (of peft: merge_and_unload(), then save_pretrained)"
        )
    usual = OPEN_CLIP_WEIGHTS + WEIGHTS if OPEN_CLIP_CONFIG in names else WEIGHTS + OPEN_CLIP_WEIGHTS
    found = [name for name in usual if name in names]
    others = sorted(name for name in names if Path(name).suffix in READERS)
    if not found and len(others) != 1:
        raise JaxalignError(
            f"{path} has {', '.join(others) or 'no weights'}; expected one of {', '.join(usual[:3])}, or"
            " a single file with weights"
        )
    weights = found[0] if found else others[0]
    return CheckpointFiles(path / weights, _read_facts(path, weights) if with_facts else Facts(), path)


def _read_facts(folder: Path, weights: str) -> Facts:
    """open_clip's configuration, or that of transformers or timm, whichever goes with the file `weights`."""
    is_open_clip = weights in OPEN_CLIP_WEIGHTS or not (folder / CONFIG).exists()
    if is_open_clip and (folder / OPEN_CLIP_CONFIG).exists():
        return read_open_clip(folder)
    if not (folder / CONFIG).exists():
        return Facts()
    config = read_json(folder / CONFIG)
    if "model_type" in config.values:
        return read_huggingface(folder)
    if "architecture" in config.values:
        return read_timm(folder)
    if (folder / OPEN_CLIP_CONFIG).exists():
        return read_open_clip(folder)
    raise JaxalignError(
        f"{folder / CONFIG} has neither model_type (transformers) nor architecture (timm); expected one of"
        " them, or load the weights file itself"
    )


def read_tensors(path: Path) -> dict[str, StoredTensor]:
    """The tensors of a weights file or of an index of several, without the prefixes of training wrappers.

    Raises:
      JaxalignError: a damaged or missing file.
    """
    tensors = _read_index(path) if path.name.endswith(INDEX) else READERS[path.suffix](path)
    names = [name for name, tensor in tensors.items() if not tensor.is_object]
    if not names:
        raise JaxalignError(f"{path} holds no tensors; expected the weights of a model")
    prefix = ""
    while more := next((p for p in _PREFIXES if all(name.startswith(prefix + p) for name in names)), ""):
        prefix += more
    prefix += wrapper_prefix(name.removeprefix(prefix) for name in names)
    objects = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if tensor.is_object}
    return objects | {name.removeprefix(prefix): tensors[name] for name in names}


def _read_index(path: Path) -> dict[str, StoredTensor]:
    index = read_json(path).object("weight_map")
    names: dict[str, set[str]] = {}
    for name in index.values:
        names.setdefault(index.text(name), set()).add(name)
    tensors: dict[str, StoredTensor] = {}
    for file, stated in sorted(names.items()):
        if Path(file).name != file or Path(file).suffix not in READERS:
            raise JaxalignError(f"{path} names the file {file!r:.80}; expected a weights file beside it")
        found = READERS[Path(file).suffix](path.parent / file)
        found = {name: tensor for name, tensor in found.items() if not tensor.is_object}
        if stated != set(found):
            wrong = ", ".join(sorted(stated ^ set(found))[:5])
            raise JaxalignError(f"{path} and {file} disagree about {wrong:.300}; fetch both again")
        tensors |= found
    return tensors
