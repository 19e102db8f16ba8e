"""Which tokens start, end and pad a text: what the files of transformers' tokenizers say, and no size."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxalign.conversion.facts import Facts, Tokens
from jaxalign.errors import JaxalignError, unknown_name
from jaxalign.inputs.clip_bpe import END, OPENAI_NAMES, START, ClipBpe, huggingface_values, is_clip
from jaxalign.inputs.json_vocabulary import JsonVocabulary, check_tokenizer, make_json_vocabulary
from jaxalign.inputs.sentencepieces import SentencePieces
from jaxalign.inputs.tokenization import SENTENCEPIECE_NAMES, TOKENIZER_JSON, Vocabulary, find_vocabulary
from jaxalign.local_files import JSON_LIMIT, read_limited
from jaxalign.weights.hub import ADDED_TOKENS, CLIP_MERGES, CLIP_WORDS, SPECIAL_TOKENS, TOKENIZER_CONFIG

from .fields import check_fields
from .huggingface_fields import TOKENIZER_CONFIG as FIELDS
from .json_object import JsonObject, read_json

_CLIP, _SIGLIP, _GEMMA = "CLIPTokenizer", "SiglipTokenizer", "GemmaTokenizer"
_GENERIC = ("PreTrainedTokenizer", "TokenizersBackend")
_NAMES = ("bos_token", "eos_token", "pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
# What the classes name their tokens where no file does.
_DEFAULTS: Mapping[str, Mapping[str, str]] = {
    _CLIP: {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"},
    _SIGLIP: {"eos_token": "</s>", "pad_token": "</s>"},
    _GEMMA: {"eos_token": "<eos>", "pad_token": "<pad>"},
    "T5Tokenizer": {"eos_token": "</s>", "pad_token": "<pad>"},
}
_ALIASES = {"Siglip2Tokenizer": _GEMMA}
_CLEANING = {_SIGLIP: "siglip", _GEMMA: "lower"}
# Which files each class reads, the preferred one first.
_FILES: Mapping[str | None, Sequence[str]] = {
    _CLIP: (TOKENIZER_JSON,),
    _SIGLIP: (*SENTENCEPIECE_NAMES, TOKENIZER_JSON),
    None: (SENTENCEPIECE_NAMES[0], TOKENIZER_JSON, *SENTENCEPIECE_NAMES[1:]),
    **dict.fromkeys((_GEMMA, *_GENERIC, "T5Tokenizer"), (TOKENIZER_JSON, *SENTENCEPIECE_NAMES)),
}


# Of CLIP's own vocabulary, which stands in where a CLIP comes without a tokenizer.
_CLIP_FRAME = (49406, 49407)


def with_tokens(facts: Facts, folder: Path, model_type: str) -> Facts:
    """`facts` of a configuration of transformers, and the tokens that the files beside it say.

    Raises:
      JaxalignError: a damaged file, one that says what is not supported, or files at odds with each other.
    """
    size, pooled = facts.text["vocabulary"], facts.text.get("end_token")
    tokens = read_tokens(folder, size, {"clip": _CLIP}.get(model_type))
    if tokens is None and model_type == "clip":
        stated = _CLIP_FRAME if pooled is None else (facts.spec["start_token"], pooled)
        if stated != _CLIP_FRAME or size <= max(_CLIP_FRAME):
            return facts.without_tokens()
        tokens = clip_tokens("CLIP's vocabulary")
    if tokens is None:
        return facts
    if tokens.kind is None:
        raise JaxalignError(
            f"{tokens.where} does not say what is done to a text before it is split; put the"
            f" {TOKENIZER_CONFIG} of the model beside it, whose tokenizer_class does"
        )
    cleaning = "clip" if isinstance(tokens.vocabulary, ClipBpe) else _CLEANING.get(tokens.kind)
    return facts.with_tokens(tokens, cleaning)


def clip_tokens(where: str) -> Tokens:
    """CLIP's own vocabulary, start and end; the padding is OpenAI's."""
    return Tokens(ClipBpe(), _CLIP, where, *_CLIP_FRAME, 0)


def read_tokens(folder: Path, size: int, kind: str | None) -> Tokens | None:
    """The tokens that the files in `folder` say for a tower of `size` tokens; None without a vocabulary.

    Args:
      kind: the class of tokenizers that counts where no file names one.

    Raises:
      JaxalignError: as `with_tokens`.
    """
    config = _tokenizer_config(folder)
    stated = config.text("tokenizer_class", None)
    if stated is not None:
        kind = _ALIASES.get(stated.removesuffix("Fast"), stated.removesuffix("Fast"))
        if kind not in (*_DEFAULTS, *_GENERIC):
            known = [*_DEFAULTS, *_GENERIC]
            raise unknown_name("tokenizer_class", stated, known, hint=f"(in {config.where})")
    path, vocabulary = find_vocabulary(folder, _FILES.get(kind, _FILES[None]), size, as_file=kind != _CLIP)
    if vocabulary is None:
        path, vocabulary = _older_clip(folder, size)
    if path is None or vocabulary is None:
        return None
    if isinstance(vocabulary, JsonVocabulary):
        _check_way(kind, vocabulary, str(path))
    if kind is None and path.name == SENTENCEPIECE_NAMES[0]:
        kind = _SIGLIP
    names = {**_DEFAULTS.get(kind or "", {}), **_named(config)}
    ids = {name: _id(vocabulary, token, name, str(path)) for name, token in names.items()}
    _check_added(config, vocabulary, kind, str(path))
    start, end = ids.get("bos_token") if kind == _CLIP else None, ids.get("eos_token")
    if kind != _CLIP and isinstance(vocabulary, JsonVocabulary):
        start, end = vocabulary.frame
    elif end is None and isinstance(vocabulary, SentencePieces):
        end = vocabulary.end_token
    return Tokens(vocabulary, kind, str(path), start, end, ids.get("pad_token"))


def _check_way(kind: str | None, vocabulary: JsonVocabulary, where: str) -> None:
    """That texts become words in the way of the class, if it has one, whatever a file says."""
    ways = {_CLIP: ("CLIP", vocabulary.is_clips), _GEMMA: ("Gemma", vocabulary.is_gemmas)}
    name, is_its = ways.get(kind or "", ("", True))
    if not is_its:
        raise JaxalignError(
            f"{where} makes words of texts in another way than {name}'s, which version 4 of transformers"
            f" follows for a {kind}, and version 5 does not; expected {name}'s, or another tokenizer_class"
        )


def _tokenizer_config(folder: Path) -> JsonObject:
    """`tokenizer_config.json`; older files beside it name the special tokens, and then count."""
    path = folder / TOKENIZER_CONFIG
    config = read_json(path) if path.exists() else JsonObject({}, str(path))
    check_fields(config, FIELDS)
    if config.values.get("do_lower_case") is False:
        raise JaxalignError(f"{config.where}: do_lower_case is false; expected true, or no such field")
    older = folder / SPECIAL_TOKENS
    if "added_tokens_decoder" in config.values or not older.exists():
        return config
    special = read_json(older)
    check_fields(special, {name: FIELDS[name] for name in (*_NAMES, *_EXTRA)})
    return JsonObject({**config.values, **special.values}, config.where)


_EXTRA = ("additional_special_tokens", "extra_special_tokens", "model_specific_special_tokens")


def _named(config: JsonObject) -> dict[str, str]:
    """The special tokens that the files name."""
    return {
        name: _content(config.values[name], f"{config.where}: {name}")
        for name in _NAMES
        if config.values.get(name) is not None
    }


def _content(token: Any, where: str) -> str:
    """A token is a string, or an object with its `content`."""
    content = token.get("content") if isinstance(token, Mapping) else token
    if not isinstance(content, str) or not content:
        raise JaxalignError(f"{where} is {token!r:.60}; expected a token")
    return content


def _id(vocabulary: Vocabulary, token: str, name: str, where: str) -> int:
    found = vocabulary.id_of(token)
    if found is None:
        raise JaxalignError(
            f"{where} has no token {token!r:.60}, which is the {name}; transformers would add it behind all"
            " that the tower knows: save the tokenizer with it, and with an embedding for it"
        )
    return found


def _check_added(config: JsonObject, vocabulary: Vocabulary, kind: str | None, where: str) -> None:
    """That tokens which were added later are in the vocabulary, under the ids that the configuration says."""
    decoder = config.object("added_tokens_decoder").values
    field = f"{config.where}: added_tokens_decoder"
    stated = {_content(token, field): number for number, token in decoder.items()}
    for token, number in stated.items():
        found = _id(vocabulary, token, "added_tokens_decoder", where)
        is_clips = isinstance(vocabulary, ClipBpe) and token in (*OPENAI_NAMES, START, END)
        if str(found) != number and not is_clips:  # which has one id for all their names
            raise JaxalignError(
                f"{field} gives {token!r:.60} the id {number[:20]}, and {where} {found}; expected the same"
            )
    is_made_anew = "added_tokens_decoder" in config.values and kind not in _GENERIC
    if is_made_anew and isinstance(vocabulary, JsonVocabulary) and not vocabulary.added <= set(stated):
        raise JaxalignError(
            f"{field} lacks {min(vocabulary.added - set(stated))!r:.60}, which {where} has; version 5 of"
            " transformers follows the one, version 4 the other: save the tokenizer again"
        )
    for name in _EXTRA:
        extra = config.values.get(name) or []
        extra = list(extra.values()) if isinstance(extra, Mapping) else extra
        for token in extra if isinstance(extra, list) else [extra]:
            _id(vocabulary, _content(token, f"{config.where}: {name}"), name, where)


def _older_clip(folder: Path, size: int) -> tuple[Path | None, Vocabulary | None]:
    """CLIP's vocabulary, or another one in its form, from the files that transformers 4 wrote."""
    path = folder / CLIP_WORDS
    if not path.exists() or not (folder / CLIP_MERGES).exists():
        return None, None
    lines = read_limited(folder / CLIP_MERGES, JSON_LIMIT).decode("utf-8", "replace").splitlines()
    merges = [line.split(" ") for line in lines if line and not line.startswith("#version")]
    words = dict(read_json(path).values)
    later = read_json(folder / ADDED_TOKENS) if (folder / ADDED_TOKENS).exists() else JsonObject({}, "")
    values = check_tokenizer(huggingface_values(words, merges, later.values), str(path))
    return path, ClipBpe() if is_clip(values, size) else make_json_vocabulary(values, str(path))
