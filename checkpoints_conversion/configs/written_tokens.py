"""Tokenizers as the files that transformers reads: `tokenizer_config.json` and the vocabulary beside it."""

import json
from collections.abc import Mapping
from typing import Any

from jaxalign.errors import JaxalignError
from jaxalign.inputs.clip_bpe import OPENAI_NAMES, ClipBpe, huggingface_words
from jaxalign.inputs.json_vocabulary import TOKENIZER_JSON, JsonVocabulary
from jaxalign.inputs.sentencepieces import SentencePieces
from jaxalign.inputs.tokenization import Tokenizer
from jaxalign.weights.hub import CLIP_MERGES, CLIP_WORDS, TOKENIZER_CONFIG

_GENERIC, _SIGLIP = "PreTrainedTokenizerFast", "SiglipTokenizer"


def tokenizer_files(tokenizer: Tokenizer, *, cleans: bool = True, masks: bool = True) -> dict[str, bytes]:
    """Name and content of the files from which transformers makes `tokenizer`.

    Args:
      cleans: False where something else than the tokenizer cleans the texts, as in open_clip.
      masks: False for a tower that attends over the padding, as SigLIP's: it is to be given no mask.

    Raises:
      JaxalignError: a tokenizer that no class of transformers is.
    """
    vocabulary, cleaning = tokenizer.vocabulary, tokenizer.cleaning
    if isinstance(vocabulary, ClipBpe):
        return _clip(tokenizer.context)
    if isinstance(vocabulary, JsonVocabulary) and (cleaning in (None, "lower") or not cleans):
        content = _framed(tokenizer, vocabulary, lower=cleans and cleaning == "lower")
        config = _config(_GENERIC, _names(tokenizer, vocabulary), tokenizer.context, masks)
        return {TOKENIZER_JSON: content, TOKENIZER_CONFIG: config}
    # its class cleans as "siglip" does, which leaves what open_clip has cleaned as it is
    expected = "siglip" if cleans else "canonicalize"
    if isinstance(vocabulary, SentencePieces) and cleaning == expected:
        ids = {"eos_token": tokenizer.end_token, "pad_token": tokenizer.pad_token}
        names = {field: vocabulary.processor.id_to_piece(token) for field, token in ids.items()}
        config = _config(_SIGLIP, names, tokenizer.context, masks)
        return {**vocabulary.files(), TOKENIZER_CONFIG: config}
    kind = "SentencePiece model" if isinstance(vocabulary, SentencePieces) else TOKENIZER_JSON
    raise JaxalignError(f"no class of transformers cleans texts for a {kind} as {cleaning!r} does")


def _clip(context: int) -> dict[str, bytes]:
    """CLIP's own. Its padding is the end token there, after which a causal tower does not look."""
    words, merges = huggingface_words()
    start, end = OPENAI_NAMES
    names = {"bos_token": start, "eos_token": end, "pad_token": end, "unk_token": end}
    lines = ["#version: 0.2", *(" ".join(merge) for merge in merges)]
    return {
        CLIP_WORDS: json.dumps(words, ensure_ascii=False).encode(),
        CLIP_MERGES: ("\n".join(lines) + "\n").encode(),
        TOKENIZER_CONFIG: _config("CLIPTokenizer", names, context),
    }


def _config(kind: str, names: Mapping[str, str], context: int, masks: bool = True) -> bytes:
    values = {
        "tokenizer_class": kind,
        "model_max_length": context,
        "padding_side": "right",
        "clean_up_tokenization_spaces": False,
        **names,
        **({} if masks else {"model_input_names": ["input_ids"]}),
    }
    return (json.dumps(values, indent=2, ensure_ascii=False) + "\n").encode()


def _names(tokenizer: Tokenizer, vocabulary: JsonVocabulary) -> dict[str, str]:
    ids = {
        "bos_token": tokenizer.start_token,
        "eos_token": tokenizer.end_token,
        "pad_token": tokenizer.pad_token,
    }
    named = {field: vocabulary.backend.id_to_token(i) for field, i in ids.items() if i is not None}
    if absent := [field for field, token in named.items() if token is None]:
        raise JaxalignError(f"its vocabulary has no token for the {absent[0]}, {ids[absent[0]]}")
    return named


def _framed(tokenizer: Tokenizer, vocabulary: JsonVocabulary, *, lower: bool) -> bytes:
    """The vocabulary's file, with a template that puts start and end around a text, and in lower case first
    where that is asked for."""
    values: dict[str, Any] = json.loads(vocabulary.files()[TOKENIZER_JSON])
    pieces: list[dict[str, Any]] = [{"Sequence": {"id": "A", "type_id": 0}}]
    special: dict[str, Any] = {}
    for place, token in ((0, tokenizer.start_token), (2, tokenizer.end_token)):
        if token is not None:
            name = vocabulary.backend.id_to_token(token)
            pieces.insert(place, {"SpecialToken": {"id": name, "type_id": 0}})
            special[name] = {"id": name, "ids": [token], "tokens": [name]}
    second = [{"Sequence": {"id": "B", "type_id": 1}}]
    template = {"type": "TemplateProcessing", "single": pieces, "pair": pieces + second}
    if lower:
        rest = [part for part in (values.get("normalizer"),) if part]
        values["normalizer"] = {"type": "Sequence", "normalizers": [{"type": "Lowercase"}, *rest]}
    values["post_processor"] = template | {"special_tokens": special}
    return json.dumps(values, ensure_ascii=False).encode()
