"""Models written for other libraries: the rules read backwards, configurations, and what is refused."""

import json
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
import sentencepiece
import tokenizers
from oracles_conversion import random_parameters, tiny
from oracles_conversion import source_tensors as slowly
from safetensors.numpy import load_file

import jaxalign as ja
from jaxalign.conversion import libraries
from jaxalign.conversion.configs import written_open_clip
from jaxalign.conversion.configs.written_open_clip import open_clip_config
from jaxalign.conversion.configs.written_tokens import tokenizer_files
from jaxalign.conversion.formats import FORMATS
from jaxalign.conversion.inverse import source_tensors
from jaxalign.conversion.libraries import LIBRARIES, write_model
from jaxalign.conversion.reading_back import differences
from jaxalign.conversion.torch_files import read_torch
from jaxalign.conversion.torch_writing import write_torch
from jaxalign.eval import cli
from jaxalign.inputs.json_vocabulary import JsonVocabulary
from jaxalign.inputs.sentencepieces import read_sentencepieces
from jaxalign.inputs.tokenization import Tokenizer
from jaxalign.weights.tensors import flatten, unflatten

WRITTEN = [(format, format.models[0].name) for format in FORMATS if format.libraries]


def tiny_model(name, **changes):
    """A known model in small, without tokens; `changes` of its spec."""
    spec = replace(tiny(name), name="tiny", source="nowhere", hub_ids=(), **changes)
    params = {path: jnp.asarray(0.2 * x) for path, x in random_parameters(spec.towers).items()}
    return ja.DualEncoder(spec, unflatten(params))


@pytest.mark.parametrize(("format", "name"), WRITTEN, ids=[format.name for format, _ in WRITTEN])
def test_the_rules_backwards(format, name):
    """As the slow way round; where that drops axes of length 1, the file's own shape has them."""
    params = random_parameters(tiny(name).towers)
    wanted = slowly(format, params)
    found, left = source_tensors(format, params)
    assert not left
    assert found.keys() == wanted.keys()
    for path, source in found.items():
        whole = np.asarray(source)
        assert whole.shape == source.shape
        np.testing.assert_array_equal(np.squeeze(whole), np.squeeze(wanted[path]))


def test_key_biases_that_a_format_cannot_hold():
    """EVA-02's keys have none: only zeros can be left out."""
    format = next(format for format in FORMATS if format.name == "open_clip EVA02 (timm)")
    params = random_parameters(tiny("eva02-clip-base-patch16").towers)
    _, left = source_tensors(format, params)
    assert {path.rpartition("_0/")[2] for path in left} == {"key/bias"}


@pytest.mark.parametrize("name", ["library.pt", "library.bin"])
def test_a_state_dict_without_pytorch(tmp_path, name):
    tensors = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b.c": np.float32(2.5).reshape(())}
    for dtype in ("float32", "float16", "bfloat16"):
        write_torch(tensors, tmp_path / name, dtype)
        found = read_torch(tmp_path / name)
        assert {k: (v.shape, v.dtype) for k, v in found.items()} == {"a": ((2, 3), dtype), "b.c": ((), dtype)}
        for path, x in tensors.items():
            np.testing.assert_array_equal(found[path].read().astype(np.float32), x)


@pytest.mark.reference
def test_a_state_dict_that_pytorch_reads(tmp_path):
    torch = pytest.importorskip("torch", reason="the extra `reference`")
    x = np.random.default_rng(0).normal(size=(3, 2, 4)).astype(np.float32)
    write_torch({"x": x, "y": np.float32(1).reshape(())}, tmp_path / "a.pt")
    found = torch.load(tmp_path / "a.pt", weights_only=True)
    assert list(found) == ["x", "y"]
    np.testing.assert_array_equal(found["x"].numpy(), x)
    assert found["y"].shape == ()


@pytest.mark.reference
@pytest.mark.parametrize(
    ("name", "to"),
    [
        ("clip-b32-open_clip", "open_clip"),
        ("clip-rn50-open_clip", "open_clip"),
        ("pe-open_clip", "open_clip"),
        ("eva02-open_clip", "open_clip"),
        ("siglip-open_clip", "open_clip"),
        ("clip-b16-transformers", "huggingface"),
        ("siglip-transformers", "huggingface"),
    ],
)
def test_the_state_dict_is_the_originals(name, to, tmp_path, monkeypatch):
    """Read from the original class's file and written again: its own names, shapes and numbers."""
    references = pytest.importorskip("references", reason="the extra `reference`")
    reference = references.REFERENCES[name]
    original = reference.build()
    (tmp_path / "original").mkdir()
    model = ja.load(reference.save(original, tmp_path / "original"))
    if hasattr(original, "visual") and hasattr(original.visual, "trunk"):  # small ones have other names
        trunk = original.reference_config["vision_cfg"]
        monkeypatch.setattr(written_open_clip, "_trunk", lambda image: trunk)
    write_model(model, tmp_path / "again", to)
    found = load_file(next((tmp_path / "again").glob("*.safetensors")))
    wanted = {k: x.numpy() for k, x in original.state_dict().items() if "num_batches_tracked" not in k}
    assert found.keys() == wanted.keys()
    for path, x in wanted.items():
        assert found[path].shape == x.shape
        np.testing.assert_array_equal(found[path], x)


KINDS = {"quickgelu": "clip-vit-base-patch32", "gelu": "clip-vit-base-patch16-datacomp", "rn50": "clip-rn50"}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.long
def test_there_and_back(kind, tmp_path, capsys):
    """Ours to open_clip, and that to transformers where it has such a tower, by the command."""
    model = tiny_model(KINDS[kind])
    ja.save(model, tmp_path / "ours")
    chain = ["open_clip"] if kind == "rn50" else ["open_clip", "huggingface", "open_clip"]
    place = tmp_path / "ours"
    for i, to in enumerate(chain):
        after = tmp_path / f"{i}-{to}"
        assert cli.main(["convert", str(place), str(after), "--format", to]) == 0
        assert json.loads((after / "verify.json").read_text())["notes"]
        place = after
    again = ja.load(place)
    assert differences(model.spec, again.spec) == []
    for path, x in flatten(model.params).items():
        np.testing.assert_array_equal(x, flatten(again.params)[path])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.long
def test_smaller_numbers(dtype, tmp_path):
    model = tiny_model("clip-vit-base-patch32")
    write_model(model, tmp_path / "m", "huggingface", dtype)
    found = flatten(ja.load(tmp_path / "m").params)
    for path, x in flatten(model.params).items():
        np.testing.assert_array_equal(x.astype(dtype).astype(np.float32), found[path])


@pytest.mark.reference
@pytest.mark.parametrize(
    ("ours", "theirs"),
    {
        "clip-vit-base-patch32": "ViT-B-32-quickgelu",
        "clip-vit-base-patch16-datacomp": "ViT-B-16",
        "clip-vit-large-patch14-336": "ViT-L-14-336-quickgelu",
        "clip-rn50": "RN50-quickgelu",
        "pe-core-base-patch16": "PE-Core-B-16",
        "eva02-clip-base-patch16": "EVA02-B-16",
        "siglip-base-patch16-224-open-clip": "ViT-B-16-SigLIP",
        "siglip2-base-patch16-224-open-clip": "ViT-B-16-SigLIP2",
    }.items(),
)
def test_configurations_are_open_clips_own(ours, theirs):
    open_clip = pytest.importorskip("open_clip", reason="the extra `reference`")
    model = ja.DualEncoder(ja.find_spec(ours), {})
    timm = "custom_text" in open_clip.get_model_config(theirs)
    found, wanted = open_clip_config(model, timm)["model_cfg"], open_clip.get_model_config(theirs)
    for part in ("vision_cfg", "text_cfg"):
        for name, value in wanted.pop(part).items():
            if (name, value) not in (("mlp_ratio", 4.0), ("head_width", 64)):
                assert found[part].get(name) == value, name
    assert {name: found.get(name) for name in wanted} == wanted


@pytest.mark.parametrize(
    ("name", "to", "message"),
    [
        ("slip-vit-base-patch16", "huggingface", "CLIPModel needs a tensor vision_model.pre_layrnorm.weight"),
        ("slip-vit-base-patch16", "open_clip", "image patch bias True, there False"),
        ("clip-rn50", "huggingface", "has no place for img/"),
        ("clip-vit-base-patch16-datacomp", "openai", "image activation gelu, there quick_gelu"),
        ("siglip-base-patch16-224", "open_clip", "timm, .* has none of these sizes"),
        ("clip-vit-base-patch32", "sentence-transformers", "no tokenizer: none came with the model"),
        ("clip-vit-base-patch32", "big_vision", "a causal text tower; patches without bias"),
        ("clip-vit-base-patch32", "onnx", "unknown format 'onnx'"),
        ("dinov2-base", "huggingface", "has no text tower"),
    ],
)
def test_what_cannot_be_expressed(name, to, message, tmp_path):
    with pytest.raises(ja.JaxalignError, match=message):
        write_model(tiny_model(name), tmp_path / "m", to)
    assert not list(tmp_path.iterdir())


def test_preprocessing_that_nobody_knows(tmp_path):
    """transformers does without, and says so when it is asked; open_clip would take CLIP's."""
    model = tiny_model("clip-vit-base-patch32", mean=None, std=None)
    with pytest.raises(ja.JaxalignError, match="open_clip takes CLIP's mean"):
        write_model(model, tmp_path / "m", "open_clip")
    notes = write_model(model, tmp_path / "m", "huggingface")
    assert "no preprocessing: nothing says how its images are prepared" in notes
    assert not (tmp_path / "m" / "preprocessor_config.json").exists()
    assert ja.load(tmp_path / "m").spec.mean is None


def test_a_configuration_that_reads_as_another_model(tmp_path, monkeypatch):
    """Whatever a writer forgets, reading finds: here the activation."""
    real = libraries.huggingface_config

    def forgetful(model, kind):
        config = real(model, kind)
        del config["vision_config"]["hidden_act"]
        return config

    monkeypatch.setattr(libraries, "huggingface_config", forgetful)
    with pytest.raises(ja.JaxalignError, match="image activation gelu, there quick_gelu"):
        write_model(tiny_model("clip-vit-base-patch16-datacomp"), tmp_path / "m", "huggingface")
    assert not list(tmp_path.iterdir())


def test_every_library_of_a_format_is_known():
    assert {library for format in FORMATS for library in format.libraries} <= set(LIBRARIES)


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    """Two vocabularies in which the case counts: a `tokenizer.json`, and a SentencePiece model."""
    known = {word: i for i, word in enumerate(["<pad>", "</s>", "<unk>", "a", "cat", "photo", "of", "Cat"])}
    backend = tokenizers.Tokenizer(tokenizers.models.WordLevel(known, unk_token="<unk>"))
    backend.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    file = tmp_path_factory.mktemp("pieces") / "spiece"
    options = {"model_type": "unigram", "bos_id": -1, "unk_id": 2, "pad_id": 0, "eos_id": 1}
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(["a photo of a cat and a dog", "red apples, many on blue plates"] * 40),
        model_prefix=str(file),
        vocab_size=40,
        hard_vocab_limit=False,
        minloglevel=2,
        **options,
    )
    return {"json": JsonVocabulary(backend), "pieces": read_sentencepieces(file.with_suffix(".model"))}


@pytest.mark.reference
@pytest.mark.parametrize(("kind", "cleaning"), [("json", None), ("json", "lower"), ("pieces", "siglip")])
def test_tokenizers_that_transformers_makes(kind, cleaning, words, tmp_path):
    transformers = pytest.importorskip("transformers", reason="the extra `reference`")
    tokenizer = Tokenizer(words[kind], 8, None, 1, 0, cleaning)
    for name, content in tokenizer_files(tokenizer, masks=False).items():
        (tmp_path / name).write_bytes(content)
    kinds = {"json": transformers.PreTrainedTokenizerFast, "pieces": transformers.SiglipTokenizer}
    theirs = kinds[kind].from_pretrained(tmp_path)
    texts = ["a photo of a Cat", "CAT", ""]
    found = theirs(texts, padding="max_length", truncation=True, max_length=8)
    assert list(found) == ["input_ids"]
    np.testing.assert_array_equal(found["input_ids"], tokenizer(texts))


@pytest.mark.parametrize(
    ("kind", "cleaning", "cleans"),
    [
        ("json", "siglip", True),
        ("json", "canonicalize", True),
        ("pieces", "lower", True),
        ("pieces", None, False),
    ],
)
def test_tokenizers_that_it_cannot_make(kind, cleaning, cleans, words):
    with pytest.raises(ja.JaxalignError, match="no class of transformers cleans texts for a"):
        tokenizer_files(Tokenizer(words[kind], 8, None, 1, 0, cleaning), cleans=cleans)
