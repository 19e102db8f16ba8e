"""Features out of the store by name: of the embedded images, of a folder, and of texts."""

import numpy as np
import pytest

from jaxalign import load
from jaxalign.errors import JaxalignError
from jaxalign.eval.datasets import load_split
from jaxalign.eval.features import default_store, image_features, text_store


@pytest.mark.long
def test_emoji_features_are_the_model_s_and_are_found_again(tmp_path, emoji_data_dir):
    model = load("emoji-clip")
    scenes = load_split("emoji-scenes", "test", emoji_data_dir)
    told: list[int] = []
    features = image_features(model, scenes, store=tmp_path, progress=told.append)
    assert features.ids == scenes.file_names
    assert (told[0], sum(told)) == (0, len(scenes))
    expected = model.encode_image(scenes.images[:200], projected=False)
    np.testing.assert_allclose(features.values[:200], expected, rtol=1e-4, atol=1e-4)  # another batch size
    told.clear()
    again = image_features(model, scenes, store=tmp_path, progress=told.append)
    assert told == [len(scenes)]
    assert again.values.tobytes() == features.values.tobytes()
    with pytest.raises(JaxalignError, match="embed the whole split and select rows of the result"):
        image_features(model, scenes.select(np.arange(5)), store=tmp_path)


def test_texts_are_known_by_what_they_say(tmp_path, clip, monkeypatch):
    monkeypatch.setenv("JAXALIGN_STORE", str(tmp_path))
    assert default_store() == tmp_path
    first = text_store(clip, "words", ["0", "1"], ["a cat", "a dog"]).read()
    expected = clip.encode_text(["a cat", "a dog"], projected=False)
    np.testing.assert_allclose(first.values, expected, rtol=1e-5, atol=1e-5)
    other = text_store(clip, "words", ["0", "1"], ["a dog", "a cat"]).read()
    np.testing.assert_array_equal(other.values[::-1], first.values)
    named = text_store(clip, "words", ["cat", "dog"], ["a cat", "a dog"]).read()
    assert named.ids == ("cat", "dog")
    assert len(list(tmp_path.rglob("store.json"))) == 3
    with pytest.raises(JaxalignError, match="3 ids for 2 texts of words"):
        text_store(clip, "words", ["0", "1", "2"], ["a cat", "a dog"])
    with pytest.raises(JaxalignError, match="'x' among them"):
        text_store(clip, "words", ["x", "x"], ["a cat", "a dog"])
