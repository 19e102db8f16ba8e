"""Token ids in both layouts."""

import numpy as np
import pytest

from jaxalign.errors import JaxalignError
from jaxalign.inputs.tokenization import read_json_vocabulary


def test_causal_layout(clip):
    ids = clip.tokenizer(["A photo of a cat", ""])
    assert ids.dtype == np.int32
    np.testing.assert_array_equal(ids, [[2, 4, 5, 6, 4, 7, 3, 0, 0, 0], [2, 3, 0, 0, 0, 0, 0, 0, 0, 0]])


def test_sticky_layout(siglip):
    np.testing.assert_array_equal(
        siglip.tokenizer(["a zebra", "cat"]), [[4, 1, 3] + [0] * 7, [7, 3] + [0] * 8]
    )


def test_the_end_token_survives_a_text_that_is_too_long(clip, siglip):
    long = "red " * 50
    np.testing.assert_array_equal(clip.tokenizer([long])[0], [2] + [9] * 8 + [3])
    np.testing.assert_array_equal(siglip.tokenizer([long])[0], [9] * 9 + [3])


def test_words_have_neither_start_nor_end(clip):
    assert clip.tokenizer.words(["a photo of ", ""]) == [[4, 5, 6], []]


def test_a_damaged_file_is_named(tmp_path):
    for content in ("{", "{}", "[1]"):
        (tmp_path / "tokenizer.json").write_text(content)
        with pytest.raises(JaxalignError, match=r"tokenizer\.json is not (JSON|a tokenizer\.json)"):
            read_json_vocabulary(tmp_path / "tokenizer.json")
