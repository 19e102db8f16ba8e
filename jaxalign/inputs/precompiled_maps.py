"""The character maps of SentencePiece inside a `tokenizer.json`: a check that every look-up stays inside.

A map is the length of a trie in bytes, the trie, and the replacements, each ended by a zero byte. The trie is
a double array of 32-bit units (darts-clone), which the library follows without looking whether it ends.
"""

import base64
import binascii
import struct
from typing import Any

import numpy as np

from jaxalign.errors import JaxalignError

LARGEST = 1 << 20  # bytes; those that SentencePiece ships have a quarter of it
_TOGETHER = 1 << 12  # nodes that are looked at at once


def check_precompiled(text: Any, where: str) -> int:
    """How many characters the longest replacement has.

    Args:
      text: of the field `precompiled_charsmap`, base64.

    Raises:
      JaxalignError: a damaged map, with `where`.
    """
    try:
        if len(text) > 2 * LARGEST:
            raise ValueError(f"{len(text)} characters")
        content = base64.b64decode(text, validate=True)
        (size,) = struct.unpack_from("<I", content)
        units = np.frombuffer(content[4 : 4 + size], "<u4").astype(np.int64)
        replacements = content[4 + size :].decode("utf-8")
    except (binascii.Error, struct.error, TypeError, ValueError) as error:
        raise _damaged(where, str(error)) from error
    if 4 + size > len(content) or not len(units):
        raise _damaged(where, f"{len(content)} bytes with a trie of {size}")
    starts = _leaves(units, where)
    characters = {0, *np.cumsum([len(c.encode()) for c in replacements]).tolist()}
    if not characters.issuperset(starts.tolist()):
        raise _damaged(where, "a replacement that starts outside of the text, or within a character")
    return max(map(len, replacements.split("\0")))


def _leaves(units: np.ndarray, where: str) -> np.ndarray:
    """Where the replacements start that the trie leads to; raises where a path leads out of it."""
    labels, offsets = units & 0x800000FF, (units >> 10) << ((units & 0x200) >> 6)
    letters = np.arange(1, 256)
    seen, waiting, leaves = np.zeros(len(units), bool), offsets[:1], [np.zeros(0, np.int64)]
    while len(waiting):
        nodes, waiting = waiting[:_TOGETHER], waiting[_TOGETHER:]
        if (nodes | 0xFF).max() >= len(units):
            raise _damaged(where, "a path that leads out of the trie")
        seen[nodes] = True
        children = nodes[:, None] ^ letters
        children = children[labels[children] == letters]
        following = children ^ offsets[children]
        if len(following) and following.max() >= len(units):
            raise _damaged(where, "a path that leads out of the trie")
        leaves.append(units[following[(units[children] & 0x100) > 0]] & 0x7FFFFFFF)
        waiting = np.concatenate([waiting, np.unique(following[~seen[following]])])
        seen[following] = True
    return np.concatenate(leaves)


def _damaged(where: str, reason: str) -> JaxalignError:
    return JaxalignError(f"{where} Precompiled: the map is damaged ({reason}); download the file again")
