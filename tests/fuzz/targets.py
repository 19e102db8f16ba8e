"""Every reader of files from outside: a valid folder for it, and how the files in it are mutated."""

import ast
import inspect
import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import jaxalign.conversion.configs
import jaxalign.conversion.spec_choice
import jaxalign.eval.runs
import jaxalign.specs.model_spec
import jaxalign.weights.hub
import jaxalign.weights.safetensors_files

from . import checkpoints, measured_files, vocabularies
from .arrays import mutate_npy, safetensors_mutator
from .hostile_vocabularies import with_hostile_parts
from .images import mutate_image
from .json_values import json_mutator
from .mutant import Mutant, Mutate, Part
from .pickles import mutate_pickle, mutate_pickles
from .protobufs import mutate_protobuf
from .raw import as_bytes
from .zips import zip_mutator


@dataclass(frozen=True)
class Target:
    """A reader under attack.

    Attributes:
      reader: in `readers.READERS`.
      weight: its share of all cases.
      files: the folder that is read.
      seeds: the valid files of which one is mutated in each case; it lies in the folder, alone or in place of
        the file of its name.
      mutate: a case.
    """

    name: str
    reader: str
    weight: int
    files: Callable[[], dict[str, bytes]]
    seeds: Callable[[], Sequence[Part]]
    mutate: Callable[[random.Random, Sequence[Part]], Mutant]


def one_of(mutate: Mutate) -> Callable[[random.Random, Sequence[Part]], Mutant]:
    """A mutation of the content of one of the files, spliced with another one."""

    def mutate_part(rng: random.Random, parts: Sequence[Part]) -> Mutant:
        part = rng.choice(parts)
        for _ in range(5):  # some changes find nothing to change
            kind, content = mutate(rng, part.content, rng.choice(parts).content)
            if content != part.content:
                break
        return Mutant(kind, Part(part.name, content))

    return mutate_part


def by_ending(rng: random.Random, parts: Sequence[Part]) -> Mutant:
    """A mutation by what the file is."""
    part = rng.choice(parts)
    mutate = {"json": RUNS, "npz": NPZ}.get(part.name.rpartition(".")[2], as_bytes)
    kind, content = mutate(rng, part.content, b"")
    return Mutant(kind, Part(part.name, content))


_WORD = re.compile(r"[A-Za-z_][\w./-]{1,40}")


def words_of(*modules: ModuleType) -> tuple[str, ...]:
    """The names in the sources of `modules` (all of a package's), which turn up in mutated files."""
    found = set()
    for module in modules:
        for source in _sources(module):
            constants = (node.value for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Constant))
            found |= {x for x in constants if isinstance(x, str) and _WORD.fullmatch(x)}
    return tuple(sorted(found))


def _sources(module: ModuleType) -> list[str]:
    if hasattr(module, "__path__"):
        return [path.read_text(encoding="utf-8") for path in sorted(Path(module.__path__[0]).glob("*.py"))]
    return [inspect.getsource(module)]


NPZ = zip_mutator(mutate_npy, ".npy", b"\x93NUMPY\x02\0\xff\xff\xff\xef| ")
TORCH = zip_mutator(mutate_pickle, "data.pkl", b"\x80\x02|N0")
TENSORS = safetensors_mutator(words_of(jaxalign.weights.safetensors_files))
CONFIGS = json_mutator(
    words_of(jaxalign.conversion.configs, jaxalign.conversion.spec_choice, jaxalign.weights.hub)
)
OURS = json_mutator(words_of(jaxalign.specs.model_spec))
RUNS = json_mutator(words_of(jaxalign.eval.runs))
LISTS = json_mutator(("train", "val", "test", "images", "split", "id", "label"))
TOKENIZER_WORDS = (
    *("BPE", "Unigram", "WordLevel", "WordPiece", "Sequence", "Replace", "Split", "Regex", "Strip", "NFKC"),
    *("ByteLevel", "Precompiled", "Metaspace", "Digits", "Punctuation", "Prepend", "pattern", "content"),
    *(
        "type",
        "id",
        "merges",
        "vocab",
        "added_tokens",
        "normalizer",
        "pre_tokenizer",
        "truncation",
        "dropout",
    ),
)
TOKENIZER = with_hostile_parts(json_mutator(TOKENIZER_WORDS))


def _target(name: str, reader: str, weight: int, files, mutate: Mutate, *hostile: str) -> Target:
    """The `hostile` ones of the folder `files()` are mutated, each like the others."""
    seeds = lambda: [Part(path, files()[path]) for path in hostile]
    return Target(name, reader, weight, files, seeds, one_of(mutate))


def _family(name: str, *hostile: str) -> Target:
    files = lambda: checkpoints.huggingface(name)
    return _target(re.sub(r"\W+", "-", name), "model", 3, files, CONFIGS, *hostile)


def _parts(made):
    """The two things that a function gives: the files beside the hostile one, and what that may be."""
    return (lambda: made()[0]), (lambda: made()[1])


def _every(files):
    """A folder, and all files in it to be mutated."""
    return files, (lambda: [Part(*file) for file in sorted(files().items())])


def _list(name: str) -> Target:
    return Target(
        f"list-{name}", f"list {name}", 2, *_parts(lambda: measured_files.lists()[name]), one_of(LISTS)
    )


def _vocabulary(name: str, weight: int, file: str, contents, mutate: Mutate) -> Target:
    files = lambda: {"config.json": checkpoints.ours()["config.json"]}
    return Target(name, name, weight, files, lambda: [Part(file, x) for x in contents()], one_of(mutate))


CONFIG, PREPROCESSOR = "config.json", "preprocessor_config.json"
TARGETS = (
    _target("torch-zip", "tensors", 14, checkpoints.some_torch, TORCH, "model.pt"),
    _target("torch-legacy", "tensors", 8, checkpoints.some_legacy_torch, mutate_pickles, "model.bin"),
    _target("safetensors", "tensors", 6, checkpoints.some_safetensors, TENSORS, "model.safetensors"),
    _target("npz", "tensors", 8, checkpoints.some_npz, NPZ, "model.npz"),
    Target("ground-truth", "ground truth", 14, *_parts(measured_files.revisited), one_of(mutate_pickle)),
    Target("images", "image", 16, dict, measured_files.images, mutate_image),
    _vocabulary("tokenizer-json", 8, "tokenizer.json", vocabularies.json_vocabularies, TOKENIZER),
    _vocabulary("sentencepiece", 4, "spiece.model", vocabularies.sentencepieces, mutate_protobuf),
    _family("clip", CONFIG, PREPROCESSOR),
    _family("clip, transformers 5", "processor_config.json"),
    _family("siglip", CONFIG, PREPROCESSOR),
    _family("dinov2", CONFIG, PREPROCESSOR),
    _family("dinov3", CONFIG, PREPROCESSOR),
    _target("open-clip", "model", 3, checkpoints.open_clip, CONFIGS, "open_clip_config.json"),
    _target("timm", "model", 3, checkpoints.timm, CONFIGS, CONFIG),
    _target("own-model", "model", 3, checkpoints.ours, OURS, CONFIG),
    _target("shards", "model", 1, checkpoints.sharded, CONFIGS, "model.safetensors.index.json"),
    *map(_list, ("eurosat", "coco", "nocaps", "bdd100k", "inat2021-mini")),
    Target("runs", "runs", 8, *_every(measured_files.runs), by_ending),
    Target("store", "store", 4, *_every(measured_files.store), by_ending),
)
BY_NAME = {target.name: target for target in TARGETS}
