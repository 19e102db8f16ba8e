"""Captioners on disk: folders of our own, ClipCap's checkpoints by way of a reader."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from jaxalign.captioning.captioner import Captioner
from jaxalign.errors import JaxalignError
from jaxalign.inputs.json_vocabulary import TOKENIZER_JSON, JsonVocabulary, read_json_vocabulary
from jaxalign.local_files import is_there, read_json
from jaxalign.models.caption_decoder import CaptionDecoder, CaptionDecoderConfig
from jaxalign.replacing import replaced_folder
from jaxalign.specs.published import PUBLISHED
from jaxalign.specs.serialization import record_from_json
from jaxalign.weights.availability import EMBEDDED
from jaxalign.weights.checkpoint import WEIGHTS, readers
from jaxalign.weights.hub import CONFIG
from jaxalign.weights.safetensors_files import read_safetensors, write_safetensors
from jaxalign.weights.stored import Shape, read_parameters
from jaxalign.weights.tensors import DEEPEST, compare_tensors, flatten, unflatten

FORMAT = "jaxalign-captioner"
_ENDING = "-captioner"  # of the folder beside that of an embedded model


@dataclass(frozen=True)
class CaptionerFacts:
    """What `config.json` of a captioner's folder says.

    Attributes:
      model: whose embeddings it learned from.
      weights: SHA-256 of that model's weights file, by which it is told from a later one of the same name.
      normalize: as in `Captioner`.
      stop: the token that ends a caption.
    """

    name: str
    source: str
    licence: str
    model: str
    weights: str
    normalize: bool
    stop: str
    decoder: CaptionDecoderConfig


def load_captioner(
    name_or_path: str | os.PathLike[str],
    *,
    tokenizer: str | os.PathLike[str] | None = None,
    normalize: bool | None = None,
) -> Captioner:
    """A caption decoder: that of an embedded model by the model's name, or one from disk.

    From disk come folders of our own and ClipCap's checkpoints, `.pt` files with the prefix mapper (MLP or
    transformer) and GPT-2. They hold no words and do not say how embeddings were given to them in training.

    Args:
      name_or_path: "emoji-clip", or a path.
      tokenizer: GPT-2's `tokenizer.json`, or a folder with it; by default the one beside the checkpoint, or
        that of `gpt2` in the cache of the Hugging Face hub.
      normalize: whether the checkpoint was trained on embeddings of length one (`--normalize_prefix` of its
        training script): False for the published MLP, True for the published transformer.

    Raises:
      JaxalignError: an unknown name, a damaged file, tensors that are missing, left over or misshapen (all of
        them named in one message), no tokenizer or another model's, or nothing that says `normalize`.

    Examples:
      >>> import jaxalign as ja
      >>> captioner = ja.load_captioner("emoji-clip")
      >>> captioner.config.embedding
      64
    """
    if not isinstance(name_or_path, str | os.PathLike) or not os.fspath(name_or_path):
        raise JaxalignError(f"name_or_path is {name_or_path!r:.60}; expected a model's name, or a path")
    name = os.fspath(name_or_path)
    embedded = has_captioner(name)
    path = EMBEDDED / f"{name}{_ENDING}" if embedded else Path(name).expanduser()
    if not embedded and not is_there(path):
        known = ", ".join(sorted(p.name.removesuffix(_ENDING) for p in EMBEDDED.glob(f"*{_ENDING}")))
        raise JaxalignError(
            f"there is no captioner {name!r:.200}; expected a folder, a ClipCap checkpoint (.pt), or the name"
            f" of a model that has one: {known}"
        )
    if embedded or _is_own_folder(path):
        if tokenizer is not None or normalize is not None:
            raise JaxalignError(
                f"the captioner {name} holds its own facts; leave out tokenizer and normalize"
            )
        return read_captioner_folder(path)
    for reader in readers():
        if reader.recognises(path):
            return reader.read_captioner(path, tokenizer, normalize)
    raise JaxalignError(f"{path} is no captioner; expected a folder of ours, or a ClipCap checkpoint (.pt)")


def has_captioner(model: str) -> bool:
    """Whether one ships for the embeddings of the model of this name."""
    return model in PUBLISHED and (EMBEDDED / f"{model}{_ENDING}").is_dir()


def _is_own_folder(path: Path) -> bool:
    if not is_there(path / CONFIG):
        return False
    config = read_json(path / CONFIG)
    return isinstance(config, dict) and config.get("format") == FORMAT


def read_captioner_folder(folder: Path) -> Captioner:
    """The captioner that `write_captioner` wrote; raises JaxalignError where a part is missing or damaged."""
    config = read_json(folder / CONFIG)
    if not isinstance(config, dict) or config.pop("format", None) != FORMAT or config.pop("version", 0) != 1:
        raise JaxalignError(f'{folder / CONFIG} is not of "format": "{FORMAT}" and version 1')
    try:
        facts = record_from_json(CaptionerFacts, config)
        wanted = decoder_shapes(facts.decoder)
    except JaxalignError as error:
        raise JaxalignError(f"{folder / CONFIG}: {error}") from error
    if folder.parent == EMBEDDED and facts.weights not in {f.sha256 for f in PUBLISHED[facts.model]}:
        raise JaxalignError(
            f"the captioner of {facts.model} learned from other weights than those of the package; train it"
            " again: tools/train_captions.py"
        )
    found = read_safetensors(folder / WEIGHTS)
    compare_tensors({k: (v.shape, v.dtype) for k, v in found.items()}, wanted, str(folder / WEIGHTS))
    vocabulary = read_json_vocabulary(folder / TOKENIZER_JSON)
    params = unflatten(read_parameters(found))
    return make_captioner(
        facts.name, facts.decoder, params, vocabulary, facts.stop, facts.normalize, str(folder)
    )


def make_captioner(
    name: str,
    config: CaptionDecoderConfig,
    params: dict[str, Any],
    vocabulary: JsonVocabulary,
    stop: str,
    normalize: bool,
    where: str,
) -> Captioner:
    """The captioner of these parts; raises JaxalignError where the words are not the decoder's."""
    if vocabulary.largest_id + 1 != config.vocabulary:
        raise JaxalignError(
            f"the tokenizer of {where} has ids up to {vocabulary.largest_id:,}, the decoder"
            f" {config.vocabulary:,} tokens; it belongs to another model"
        )
    token = vocabulary.id_of(stop)
    if token is None:
        raise JaxalignError(f"the tokenizer of {where} has no token {stop!r}, which ends a caption")
    return Captioner(name, config, params, vocabulary, token, normalize)


def write_captioner(
    folder: Path, facts: CaptionerFacts, params: Mapping[str, Any], vocabulary: JsonVocabulary, dtype: Any
) -> None:
    """A folder that `load_captioner` reads, in the place of what is there; weights in `dtype`."""
    with replaced_folder(folder) as place:
        write_safetensors(flatten(params), place / WEIGHTS, dtype)
        config = {"format": FORMAT, "version": 1, **asdict(facts)}
        (place / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
        for name, content in vocabulary.files().items():
            (place / name).write_bytes(content)


def decoder_shapes(config: CaptionDecoderConfig) -> dict[str, Shape]:
    """The shape of every parameter of `CaptionDecoder`, by its path joined with "/"; nothing is computed.

    Raises JaxalignError for sizes that no file can be meant to have.
    """
    if max(config.depth, config.mapper.depth) > DEEPEST:
        raise JaxalignError(
            f"{max(config.depth, config.mapper.depth)} blocks; expected at most {DEEPEST}: a damaged file?"
        )
    embeddings = jax.ShapeDtypeStruct((1, config.embedding), jnp.float32)
    tokens = jax.ShapeDtypeStruct((1, 1), jnp.int32)
    try:
        key = jax.eval_shape(lambda: jax.random.key(0))
        variables = jax.eval_shape(CaptionDecoder(config).init, key, embeddings, tokens)
    except OverflowError as error:
        raise JaxalignError("a decoder of such sizes cannot be computed: a damaged file?") from error
    return {name: leaf.shape for name, leaf in flatten(variables["params"]).items()}
