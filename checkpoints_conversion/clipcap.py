"""ClipCap's checkpoints to captioners: sizes by shapes, words from GPT-2's tokenizer, nothing guessed."""

import os
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from jaxalign.captioning.captioner import Captioner
from jaxalign.errors import JaxalignError
from jaxalign.inputs.json_vocabulary import TOKENIZER_JSON, read_json_vocabulary
from jaxalign.local_files import is_there
from jaxalign.models.caption_decoder import CaptionDecoderConfig, MapperConfig
from jaxalign.weights.captioner_files import decoder_shapes, make_captioner
from jaxalign.weights.hub import find_cached
from jaxalign.weights.stored import Shape, StoredTensor
from jaxalign.weights.tensors import unflatten

from .checkpoint_files import read_tensors
from .engine import Format, convert
from .formats.clipcap import CLIPCAP_MLP, CLIPCAP_TRANSFORMER

GPT2_REPOSITORIES = ("openai-community/gpt2", "gpt2")  # one tokenizer, by its name of today and before
HEAD_WIDTH = 64  # in all sizes of GPT-2; no file says how many heads there are
MAPPER_HEADS = 8  # in ClipCap's code, whatever the width
STOP = "."  # its captions end with the first full stop
_HEAD, _WORDS = "gpt.lm_head.weight", "gpt.transformer.wte.weight"


def read_captioner(
    path: Path, tokenizer: str | os.PathLike[str] | None = None, normalize: bool | None = None
) -> Captioner:
    """The captioner of a checkpoint of ClipCap; arguments as of `jaxalign.load_captioner`.

    Raises:
      JaxalignError: a damaged file or another format; tensors that are missing, left over or misshapen; no
        tokenizer, or one of other words; or nothing that says `normalize`.
    """
    if path.is_dir():
        raise JaxalignError(
            f"{path} is a folder and no captioner of ours; expected a ClipCap checkpoint (.pt)"
        )
    found = read_tensors(path)
    format = _find_format(found, path)
    _check_tied(found, path)
    try:
        config = _read_sizes(format, {name: t.shape for name, t in found.items() if not t.is_object})
        wanted = decoder_shapes(config)
    except JaxalignError as error:
        raise JaxalignError(f"{path}: {error}") from error
    given = {name: tensor for name, tensor in found.items() if name != _HEAD}
    params = convert(format, given, wanted, str(path))
    if normalize is None:
        raise JaxalignError(
            f"nothing in {path} says whether it was trained on embeddings of length one; pass normalize"
            " (--normalize): no for ClipCap's published MLP, yes for its published transformer"
        )
    words = _find_tokenizer(path, tokenizer)
    vocabulary = read_json_vocabulary(words)
    return make_captioner(path.stem, config, unflatten(params), vocabulary, STOP, normalize, str(words))


def _find_format(found: Mapping[str, StoredTensor], path: Path) -> Format:
    for format in (CLIPCAP_MLP, CLIPCAP_TRANSFORMER):
        if format.recognises(found):
            return format
    some = ", ".join(sorted(found)[:3])
    raise JaxalignError(
        f"{path} holds {len(found)} tensors ({some:.200}, ...), which are none of ClipCap's; expected"
        " clip_project (an MLP of two layers, or a transformer) and gpt (GPT-2)"
    )


def _check_tied(found: Mapping[str, StoredTensor], path: Path) -> None:
    """GPT-2's head is its word vectors; a file that has both has them twice."""
    if _HEAD not in found or found[_HEAD].is_object or found[_WORDS].is_object:
        return
    head, words = found[_HEAD], found[_WORDS]
    if head.shape != words.shape or not np.array_equal(head.read(), words.read()):
        raise JaxalignError(
            f"{path}: {_HEAD} is not {_WORDS}; expected GPT-2, whose head is its word vectors"
        )


def _read_sizes(format: Format, shapes: Mapping[str, Shape]) -> CaptionDecoderConfig:
    """What the shapes say; raises JaxalignError for a tensor that is missing, or sizes that do not fit."""
    vocabulary, width = _shape(shapes, _WORDS, 2)
    (hidden,) = _shape(shapes, "gpt.transformer.h.0.mlp.c_fc.bias", 1)
    if width % HEAD_WIDTH:
        raise JaxalignError(
            f"GPT-2 is {width} wide; expected a multiple of {HEAD_WIDTH}, the width of its heads"
        )
    mapper = _read_mlp if format is CLIPCAP_MLP else _read_transformer
    embedding, mapped = mapper(shapes, width)
    return CaptionDecoderConfig(
        embedding=embedding,
        mapper=mapped,
        vocabulary=vocabulary,
        context=_shape(shapes, "gpt.transformer.wpe.weight", 2)[0],
        width=width,
        depth=_depth(shapes, r"gpt\.transformer\.h\."),
        heads=width // HEAD_WIDTH,
        mlp_hidden=hidden,
    )


def _read_mlp(shapes: Mapping[str, Shape], width: int) -> tuple[int, MapperConfig]:
    hidden, embedding = _shape(shapes, "clip_project.model.0.weight", 2)
    name = "clip_project.model.2.bias"
    return embedding, MapperConfig("mlp", _tokens(name, _shape(shapes, name, 1), width), hidden)


def _read_transformer(shapes: Mapping[str, Shape], width: int) -> tuple[int, MapperConfig]:
    prefix, _ = _shape(shapes, "clip_project.prefix_const", 2)
    _, embedding = _shape(shapes, "clip_project.linear.weight", 2)
    (hidden,) = _shape(shapes, "clip_project.transformer.layers.0.mlp.fc1.bias", 1)
    tokens = _tokens("clip_project.linear.bias", _shape(shapes, "clip_project.linear.bias", 1), width)
    depth = _depth(shapes, r"clip_project\.transformer\.layers\.")
    return embedding, MapperConfig("transformer", prefix, hidden, tokens, depth, MAPPER_HEADS)


def _shape(shapes: Mapping[str, Shape], name: str, axes: int) -> Shape:
    if name not in shapes or len(shapes[name]) != axes:
        raise JaxalignError(f"{name} is {shapes.get(name, 'missing')}; expected {axes} axes")
    return shapes[name]


def _tokens(name: str, shape: Shape, width: int) -> int:
    if not shape[0] or shape[0] % width:
        raise JaxalignError(
            f"{name} has {shape[0]} numbers; expected a multiple of {width}, the width of GPT-2"
        )
    return shape[0] // width


def _depth(shapes: Mapping[str, Shape], blocks: str) -> int:
    """One more than the largest number of a block."""
    numbers = [int(match[1]) for name in shapes if (match := re.match(rf"{blocks}(\d{{1,9}})\.", name))]
    return max(numbers, default=-1) + 1


def _find_tokenizer(path: Path, given: str | os.PathLike[str] | None) -> Path:
    """The file that was given, or lies in the given folder; else the one beside `path`, or the cache's."""
    if given is not None:
        place = Path(given).expanduser()
        file = place / TOKENIZER_JSON if place.is_dir() else place
        if not is_there(file):
            raise JaxalignError(f"the tokenizer {file} is not there; expected GPT-2's {TOKENIZER_JSON}")
        return file
    beside = path.parent / TOKENIZER_JSON
    cached = (find_cached(repository, TOKENIZER_JSON) for repository in GPT2_REPOSITORIES)
    file = beside if is_there(beside) else next(filter(None, cached), None)
    if file is None:
        raise JaxalignError(
            f"{path} needs GPT-2's {TOKENIZER_JSON}, which is neither beside it nor in the hub's cache;"
            f" run `hf download {GPT2_REPOSITORIES[0]} {TOKENIZER_JSON}` where there is a network, or pass"
            " tokenizer (--tokenizer)"
        )
    return file
