"""The vocabulary of a `tokenizer.json`, split by the library `tokenizers` after a look through the file."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jaxalign.errors import JaxalignError
from jaxalign.inputs.clip_bpe import is_usual
from jaxalign.inputs.tokenizer_parts import chain, check_parts
from jaxalign.local_files import read_json

TOKENIZER_JSON = "tokenizer.json"
LIMIT = 48 << 20  # bytes; that of Gemma's 256,000 words has 34 million
MOST_CHARACTERS = 1 << 23  # of all pieces of a Unigram model, each of which takes a node of a tree
MOST_ADDED = 1 << 20  # characters of all added tokens, which take two automata
_FIELDS = (
    "version",
    "truncation",
    "padding",
    "added_tokens",
    "normalizer",
    "pre_tokenizer",
    "post_processor",
    "decoder",
    "model",
)
_MODELS: Mapping[str, tuple[str, ...]] = {
    "BPE": (
        "dropout",
        "unk_token",
        "continuing_subword_prefix",
        "end_of_word_suffix",
        "fuse_unk",
        "byte_fallback",
        "ignore_merges",
        "vocab",
        "merges",
    ),
    "WordPiece": ("unk_token", "continuing_subword_prefix", "max_input_chars_per_word", "vocab"),
    "WordLevel": ("unk_token", "vocab"),
    "Unigram": ("unk_id", "byte_fallback", "vocab"),
}


@dataclass(frozen=True)
class JsonVocabulary:
    """A `tokenizers.Tokenizer`; only its words count, its own template and padding are not used.

    Attributes:
      frame: ids that the file's template puts before and after a text; None for none.
      is_clips, is_gemmas: whether texts become words in the way that transformers gives CLIP, or Gemma.
    """

    backend: Any = field(repr=False)
    frame: tuple[int | None, int | None] = (None, None)
    is_clips: bool = False
    is_gemmas: bool = False

    def __len__(self) -> int:
        return self.backend.get_vocab_size()

    @property
    def largest_id(self) -> int:
        return max(self.backend.get_vocab().values(), default=-1)

    def id_of(self, token: str) -> int | None:
        """The id of a special token; None where there is none of this name."""
        return self.backend.token_to_id(token)

    @property
    def added(self) -> set[str]:
        """Tokens that were added to the words of the model."""
        return {token.content for token in self.backend.get_added_tokens_decoder().values()}

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        with _one_line("this vocabulary cannot split the texts"):
            return [found.ids for found in self.backend.encode_batch(list(texts), add_special_tokens=False)]

    def decode(self, ids: Sequence[Sequence[int]]) -> list[str]:
        """The texts that ids stand for, special tokens left out, joined as the file's decoder says."""
        with _one_line("this vocabulary cannot join the words"):
            return self.backend.decode_batch([list(row) for row in ids], skip_special_tokens=True)

    def files(self) -> dict[str, bytes]:
        return {TOKENIZER_JSON: self.backend.to_str().encode()}


def read_json_vocabulary(path: Path) -> JsonVocabulary:
    """The vocabulary of a `tokenizer.json`.

    Raises:
      JaxalignError: a damaged file, or one that is larger than `LIMIT` or has parts that are not taken (see
        `jaxalign.inputs.tokenizer_parts`).
    """
    return make_json_vocabulary(check_tokenizer(read_json(path, LIMIT), str(path)), str(path))


def check_tokenizer(values: Any, where: str) -> Mapping[str, Any]:
    """`values`, which a `tokenizer.json` says, with a model and parts that are taken."""
    if not isinstance(values, Mapping) or not isinstance(values.get("model"), Mapping):
        raise JaxalignError(f"{where} is not a tokenizer.json: it has no object 'model'")
    unknown = [name for name in values if name not in _FIELDS]
    if unknown:
        raise JaxalignError(f"{where} has the field {unknown[0]!r:.60}; expected {', '.join(_FIELDS)}")
    _check_model(values["model"], f"{where}: model")
    check_parts(values, where)
    added = values.get("added_tokens") or []
    if not isinstance(added, list) or not all(map(_is_added, added)):
        raise JaxalignError(f"{where}: added_tokens is {added!r:.60}; expected a list of contents and ids")
    _check_length((token["content"] for token in added), MOST_ADDED, f"{where}: added_tokens")
    return values


def _check_length(words: Iterable[str], most: int, where: str) -> None:
    length = sum(map(len, words))
    if length > most:
        raise JaxalignError(f"{where} has {length:,} characters; expected at most {most:,} of all together")


def largest_id(values: Mapping[str, Any]) -> int:
    """The largest id in what `check_tokenizer` took."""
    words, added = values["model"]["vocab"], values.get("added_tokens") or []
    known = [len(words) - 1] if isinstance(words, list) else words.values()
    return max([*known, *(token["id"] for token in added)], default=-1)


def make_json_vocabulary(values: Mapping[str, Any], where: str) -> JsonVocabulary:
    """The vocabulary of what `check_tokenizer` took; raises JaxalignError where the library refuses it."""
    import tokenizers

    with _one_line(f"{where} is not a tokenizer.json"):
        # what was looked through, and not the file, in which a key may be twice
        backend = tokenizers.Tokenizer.from_str(json.dumps(values))
    _check_added(values.get("added_tokens") or [], backend, f"{where}: added_tokens")
    _check_sides(values, where)
    backend.no_padding()
    backend.no_truncation()
    return JsonVocabulary(backend, _frame(values, where), is_usual(values), _is_gemmas(values))


def _is_gemmas(values: Mapping[str, Any]) -> bool:
    """Whether the parts around the words are those that transformers gives Gemma, or SigLIP 2."""
    space = {"String": " "}
    steps = [(p.get("type"), p.get("pattern"), p.get("content")) for p in chain(values, "normalizer")]
    split = [(part.get("type"), part.get("pattern")) for part in chain(values, "pre_tokenizer")]
    return (
        all(values["model"].get(name) is True for name in ("byte_fallback", "fuse_unk"))
        and [step for step in steps if step[0] != "Lowercase"] == [("Replace", space, "\u2581")]
        and split in ([], [("Split", space)])  # of spaces, which none is left of
    )


@contextmanager
def _one_line(what: str) -> Iterator[None]:
    """What the library raises, as JaxalignError: it has one exception for all, and panics besides."""
    try:
        yield
    except JaxalignError:
        raise
    except Exception as error:  # the library raises nothing narrower
        raise JaxalignError(f"{what}: {str(error).partition(chr(10))[0]:.200}") from error
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # of Rust, and no Exception
            raise
        raise JaxalignError(f"{what}: {str(error).partition(chr(10))[0]:.200}") from error


def _check_model(model: Mapping[str, Any], where: str) -> None:
    """That the words, merges and the unknown token are there and belong together."""
    kind = model.get("type")
    if kind is None and "merges" in model:  # as older files have it
        kind = "BPE"
    if not isinstance(kind, str) or kind not in _MODELS:
        raise JaxalignError(f"{where} is a {kind!r:.60}; expected one of {', '.join(_MODELS)}")
    unknown = [name for name in model if name not in ("type", *_MODELS[kind])]
    if unknown:
        raise JaxalignError(f"{where} has the field {unknown[0]!r:.60}; expected {', '.join(_MODELS[kind])}")
    if kind == "Unigram":
        _check_unigram(model, where)
        return
    words = model.get("vocab")
    if not isinstance(words, Mapping) or not all(type(i) is int and 0 <= i < 2**31 for i in words.values()):
        raise JaxalignError(f"{where}: vocab is {words!r:.60}; expected an object of words and their ids")
    if len(set(words.values())) != len(words):
        raise JaxalignError(f"{where}: vocab gives one id to two words; the file is damaged")
    unknown = model.get("unk_token")
    if kind == "BPE":  # which may have a word for every byte, and nothing is unknown
        _check_bpe(model, words, where)
    elif not isinstance(unknown, str) or unknown not in words:
        raise JaxalignError(f"{where}: unk_token is {unknown!r:.60}; expected a word of the vocabulary")


def _check_unigram(model: Mapping[str, Any], where: str) -> None:
    pieces, unknown = model.get("vocab"), model.get("unk_id")
    if not isinstance(pieces, list) or not all(map(_is_piece, pieces)):
        raise JaxalignError(f"{where}: vocab is {pieces!r:.60}; expected a list of pieces and their scores")
    if type(unknown) is not int or not 0 <= unknown < len(pieces):
        raise JaxalignError(f"{where}: unk_id is {unknown!r:.60}; expected the position of a piece")
    _check_length((piece for piece, _ in pieces), MOST_CHARACTERS, f"{where}: vocab")


def _is_piece(piece: Any) -> bool:
    is_pair = isinstance(piece, list) and len(piece) == 2 and isinstance(piece[0], str)
    return is_pair and type(piece[1]) in (int, float) and abs(piece[1]) < 1e300  # NaN is less than nothing


def _check_bpe(model: Mapping[str, Any], words: Mapping[str, int], where: str) -> None:
    if model.get("dropout") not in (None, 0):
        raise JaxalignError(
            f"{where}: dropout is {model['dropout']!r:.60}; expected null, or a text has other ids each time"
        )
    prefix, merges = model.get("continuing_subword_prefix") or "", model.get("merges")
    if not isinstance(merges, list) or not isinstance(prefix, str):
        raise JaxalignError(f"{where}: merges is {merges!r:.60}; expected a list of pairs of words")
    if not prefix.isascii():  # the library takes its characters for bytes
        raise JaxalignError(f"{where}: continuing_subword_prefix is {prefix!r:.60}; expected ASCII")
    for merge in merges:
        pair = merge.split(" ") if isinstance(merge, str) else merge
        is_pair = isinstance(pair, list) and len(pair) == 2 and all(isinstance(x, str) for x in pair)
        if not is_pair or not pair[1].startswith(prefix):  # which is cut off, whatever is there
            raise JaxalignError(f"{where}: merges has {merge!r:.60}; expected pairs of words")
        missing = [x for x in (*pair, pair[0] + pair[1][len(prefix) :]) if x not in words]
        if missing:
            raise JaxalignError(
                f"{where}: merges has {merge!r:.60}, but the vocabulary lacks {missing[0]!r:.60}; the file is"
                " damaged"
            )


def _is_added(token: Any) -> bool:
    is_named = isinstance(token, Mapping) and isinstance(token.get("content"), str) and bool(token["content"])
    return is_named and type(token.get("id")) is int


def _check_added(added: Sequence[Mapping[str, Any]], backend: Any, where: str) -> None:
    """The library numbers new tokens itself, whatever the file says."""
    for token in added:
        content, number = token["content"], token["id"]
        if backend.token_to_id(content) != number:
            raise JaxalignError(
                f"{where} gives {content!r:.60} the id {number!r:.60}, where its place among the words gives"
                f" {backend.token_to_id(content)}; the file is damaged"
            )


def _check_sides(values: Mapping[str, Any], where: str) -> None:
    for name in ("padding", "truncation"):
        side = (values.get(name) or {}).get("direction", "Right")
        if side != "Right":
            raise JaxalignError(f"{where}: {name} has the direction {side!r:.60}; expected 'Right'")


def _frame(values: Mapping[str, Any], where: str) -> tuple[int | None, int | None]:
    """Ids that the template puts around a text; raises JaxalignError for a template with more."""
    frame: tuple[int | None, int | None] = (None, None)
    for part in chain(values, "post_processor", where):
        if part["type"] in ("BertProcessing", "RobertaProcessing"):
            frame = part["cls"][1], part["sep"][1]
        elif part["type"] == "TemplateProcessing":
            frame = _template(part, f"{where}: post_processor")
    return frame


def _template(part: Mapping[str, Any], where: str) -> tuple[int | None, int | None]:
    """Of a template, which the library has read before: a list of one-key objects."""
    kinds = [next(iter(piece)) for piece in part["single"]]
    before = kinds.index("Sequence") if kinds.count("Sequence") == 1 else len(kinds)
    if before > 1 or len(kinds) - before > 2:
        raise JaxalignError(
            f"{where} is {part['single']!r:.120}; expected a text with one token on either side"
        )
    ids: list[int | None] = [None, None]
    for i, piece in enumerate(part["single"]):
        if "SpecialToken" in piece:
            found = part["special_tokens"].get(piece["SpecialToken"]["id"], {}).get("ids", [])
            if len(found) != 1:
                raise JaxalignError(f"{where} has a token with the ids {found!r:.60}; expected one id")
            ids[int(i > before)] = found[0]
    return ids[0], ids[1]
