"""Models written to disk and read back, and everything that may be wrong there."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import jaxalign as ja
from jaxalign.errors import JaxalignError
from jaxalign.specs import MODELS, find_spec, spec_from_json, spec_to_json
from jaxalign.weights import checkpoint
from jaxalign.weights.tensors import flatten, unflatten

TEXTS = ["a cat", "red apple"]


@pytest.fixture
def saved(clip, tmp_path):
    ja.save(clip, tmp_path / "model")
    return tmp_path / "model"


def test_round_trip(model, tmp_path):
    ja.save(model, tmp_path / "m")
    back = ja.load(tmp_path / "m")
    assert back.spec == model.spec
    assert sorted(p.name for p in tmp_path.rglob("*")) == [
        "config.json",
        "m",
        "model.safetensors",
        "tokenizer.json",
    ]
    modes = {(tmp_path / "m" / name).stat().st_mode for name in ("config.json", "model.safetensors")}
    assert len(modes) == 1, "the weights are as readable as the rest"
    jax.tree.map(np.testing.assert_array_equal, dict(back.params), dict(model.params))
    np.testing.assert_array_equal(back.encode_text(TEXTS), model.encode_text(TEXTS))


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
def test_half_precision_on_disk_is_float32_in_memory(clip, tmp_path, dtype):
    ja.save(clip, tmp_path / "m", dtype=dtype)
    back = ja.load(str(tmp_path / "m"))
    for name, x in flatten(back.params).items():
        assert x.dtype == jnp.float32
        # bfloat16 has eight bits
        np.testing.assert_allclose(x, flatten(clip.params)[name], rtol=1e-2, atol=1e-6)


def test_a_copy_whose_facts_were_edited_is_a_model_of_its_own(tmp_path):
    folder, known = tmp_path / "edited", ja.load("emoji-clip")
    ja.save(known, folder)
    assert ja.load(folder).spec == known.spec
    config = json.loads((folder / "config.json").read_text())
    edits = {"mean": [0.25, 0.5, 0.5], "interpolation": "bilinear", "band": [1, 2], "licence": "another"}
    for field, value in edits.items():
        (folder / "config.json").write_text(json.dumps(config | {field: value}))
        spec = ja.load(folder).spec
        assert (spec.name, spec.source) == ("edited", str(folder))
        assert (spec.band, spec.licence) == (None, "unknown")


def test_compute_dtype(saved):
    assert ja.load(saved, dtype=jnp.bfloat16).dtype == jnp.bfloat16
    with pytest.raises(JaxalignError, match="dtype is int8"):
        ja.load(saved, dtype=jnp.int8)


def test_a_model_without_tokenizer(clip, saved):
    (saved / "tokenizer.json").unlink()
    back = ja.load(saved)
    assert back.tokenizer is None
    with pytest.raises(JaxalignError, match=r"without tokenizer\.json"):
        back.encode_text(TEXTS)


def test_saving_again_replaces_a_model_and_nothing_else(clip, siglip, saved):
    ja.save(siglip, saved)
    assert ja.load(saved).name == siglip.name
    (saved / "notes.txt").write_text("mine")
    with pytest.raises(JaxalignError, match=r"also holds notes\.txt, which would be lost"):
        ja.save(clip, saved)
    (saved / "config.json").write_text("{}")
    with pytest.raises(JaxalignError, match="exists and is not a model that jaxalign saved"):
        ja.save(clip, saved)
    assert [p.name for p in saved.parent.iterdir()] == ["model"]


def test_a_failed_save_leaves_nothing(clip, tmp_path, monkeypatch):
    def fails(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "write_folder", fails)
    with pytest.raises(JaxalignError, match=r"cannot write .*: No space left on device"):
        ja.save(clip, tmp_path / "m")
    assert not list(tmp_path.iterdir())


def test_where_saving_is_refused(clip, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(JaxalignError, match="cannot write"):
        ja.save(clip, tmp_path / "file" / "m")
    with pytest.raises(JaxalignError, match="is not a model that jaxalign saved"):
        ja.save(clip, tmp_path / "file")
    with pytest.raises(JaxalignError, match="looks like a file"):
        ja.save(clip, tmp_path / "m.safetensors")
    with pytest.raises(JaxalignError, match="dtype is int8"):
        ja.save(clip, tmp_path / "m", dtype=jnp.int8)
    large = dataclasses.replace(clip, params={**clip.params, "t": jnp.array([1e6])})
    with pytest.raises(JaxalignError, match="t: NaN or values above 65504 do not fit float16"):
        ja.save(large, tmp_path / "m", dtype=jnp.float16)
    broken = dataclasses.replace(clip, params={**clip.params, "t": jnp.array([jnp.nan])})
    with pytest.raises(JaxalignError, match="t: NaN or values above"):
        ja.save(broken, tmp_path / "m", dtype=jnp.float32)
    short = dataclasses.replace(clip, params={"t": clip.params["t"]})
    with pytest.raises(JaxalignError, match="the tensors of these parameters do not fit"):
        ja.save(short, tmp_path / "m")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_every_difference_is_in_one_message(saved):
    tensors = load_file(saved / "model.safetensors")
    tensors["img/hade/kernel"] = tensors.pop("img/head/kernel")
    tensors["txt/pos_embedding"] = tensors["txt/pos_embedding"][:, :5]
    tensors["t"] = np.ones(1, np.int64)
    save_file(tensors, saved / "model.safetensors")
    with pytest.raises(JaxalignError) as caught:
        ja.load(saved)
    message = str(caught.value)
    assert "\n" not in message
    for part in (
        "1 missing: img/head/kernel",
        "1 left over: img/hade/kernel (meant img/head/kernel?)",
        "1 misshapen: txt/pos_embedding is (1, 5, 20), expected (1, 10, 20)",
        "1 of a wrong dtype: t is int64, expected float16/bfloat16/float32",
    ):
        assert part in message


def test_damaged_files(saved):
    weights, config = saved / "model.safetensors", saved / "config.json"
    whole, facts = weights.read_bytes(), json.loads(config.read_text())
    for content in (whole[:-10], whole[:100], b"", b"\x00" * 50):
        weights.write_bytes(content)
        with pytest.raises(JaxalignError, match=r"model\.safetensors is cut off or damaged"):
            ja.load(saved)
    weights.unlink()
    with pytest.raises(JaxalignError, match=r"cannot read .*model\.safetensors"):
        ja.load(saved)
    config.write_text(json.dumps(facts | {"version": 2}))
    with pytest.raises(JaxalignError, match="is of a later version"):
        ja.load(saved)
    config.write_text("{")
    with pytest.raises(JaxalignError, match="is in no format that can be read"):
        ja.load(saved)
    with pytest.raises(JaxalignError, match=r"config\.json is not JSON"):
        checkpoint.read_folder(saved)


def test_a_vocabulary_of_another_model(clip, siglip, saved):
    backend = json.loads((saved / "tokenizer.json").read_text())
    backend["model"]["vocab"]["one more"] = 14
    (saved / "tokenizer.json").write_text(json.dumps(backend))
    with pytest.raises(JaxalignError, match="has ids up to 14, the text tower 14 tokens"):
        ja.load(saved)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "emoji-klip",
            "^there is no file or folder emoji-klip; unknown model 'emoji-klip'; did you mean 'emoji-clip'",
        ),
        ("./nowhere/at/all", "^there is no file or folder ./nowhere/at/all"),
    ],
)
def test_unknown_names(name, message):
    with pytest.raises(JaxalignError, match=message):
        ja.load(name)
    with pytest.raises(JaxalignError, match="unknown model"):
        find_spec(name)


def test_a_file_of_no_known_format(tmp_path):
    (tmp_path / "weights.xyz").write_bytes(b"?")
    with pytest.raises(JaxalignError, match=r"is in no format that can be read; expected a folder"):
        ja.load(tmp_path / "weights.xyz")


@pytest.mark.parametrize("spec", MODELS.values(), ids=MODELS)
def test_specs_survive_json(spec):
    assert spec_from_json(json.loads(json.dumps(spec_to_json(spec)))) == spec


def test_every_wrong_fact_is_in_one_message(clip):
    facts = spec_to_json(clip.spec)
    facts["towers"]["image"] |= {"depth": "two", "widht": 3}
    facts |= {"mean": [0.5], "resize": "crop", "std": [0.5, 0.5, True]}
    del facts["licence"]
    with pytest.raises(JaxalignError) as caught:
        spec_from_json(facts)
    for part in (
        "towers.image.depth is 'two'; expected a int",
        "unknown key 'towers.image.widht'; did you mean 'towers.image.width'",
        "mean is [0.5]; expected a list of 3",
        "resize is 'crop'; expected 'squash' or 'shortest'",
        "std is True; expected a float",
        "licence is missing",
    ):
        assert part in str(caught.value)
    with pytest.raises(JaxalignError, match="the content is 3; expected an object"):
        spec_from_json(3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"start_token": None}, "expected a start token for 'causal'"),
        ({"pad_token": 99}, "pad_token is 99; expected an id below 14"),
        ({"inversion_patches": 10}, "inversion_patches is 10; expected 1 to 9"),
        ({"std": (0.0, 1.0, 1.0)}, "expected values above 0"),
    ],
)
def test_facts_that_contradict_each_other(clip, change, message):
    with pytest.raises(JaxalignError, match=message):
        dataclasses.replace(clip.spec, **change)


def test_flatten_and_unflatten(clip):
    flat = flatten(clip.params)
    assert "img/Transformer/encoderblock_1/MlpBlock_0/Dense_0/kernel" in flat
    assert jax.tree.structure(unflatten(flat)) == jax.tree.structure(clip.params)


@pytest.mark.parametrize("name", ["emoji-clip", "emoji-siglip"])
def test_embedded_models(name):
    """They hold the facts of the table, and half precision."""
    model = ja.load(name)
    assert model.spec == find_spec(name)
    assert {x.dtype.name for x in load_file(checkpoint.EMBEDDED / name / "model.safetensors").values()} == {
        "float16"
    }
    z = model.encode_text(["a photo of red apple", "a picture of red apple", "a photo of violin"])
    z = z / jnp.linalg.norm(z, axis=-1, keepdims=True)
    assert z[0] @ z[1] > z[0] @ z[2]
    assert len(model.tokenizer.vocabulary) == model.config.text.vocabulary
