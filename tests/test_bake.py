"""`ja.bake`, and `jaxalign bake`: the heads of a method in checkpoints that the libraries themselves load."""

import json
from dataclasses import replace
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from oracles_conversion import random_parameters

import jaxalign as ja
from jaxalign.baking import baked_heads
from jaxalign.conversion import baked_files, libraries
from jaxalign.conversion.baked_files import write_baked
from jaxalign.eval import cli
from jaxalign.inputs.clip_bpe import ClipBpe
from jaxalign.inputs.tokenization import Tokenizer
from jaxalign.weights.tensors import flatten, unflatten

BAND = (10, 20)
TOLERANCE = 2e-5
TEXTS = ["a photo of a cat!", "two dogs, 12 birds; a déjà-vu", "x" * 100]
NAMES = ("cat", "dog", "horse", "plane", "boat", "tree")


@pytest.fixture(scope="module")
def b32() -> ja.DualEncoder:
    """CLIP ViT-B/32 with small layers, random weights and CLIP's own tokens."""
    spec = ja.find_spec("clip-vit-base-patch32")
    image = replace(
        spec.towers.image, image_size=64, width=128, heads=2, depth=2, mlp_hidden=512, projection=64
    )
    text = replace(spec.towers.text, width=64, heads=1, depth=2, mlp_hidden=256, projection=64)
    towers = replace(spec.towers, image=image, text=text)
    spec = replace(spec, name="small-b32", source="nowhere", towers=towers, inversion_patches=1, hub_ids=())
    params = {
        name: jnp.asarray(name.endswith("scale") + (0.05 if x.ndim > 1 else 0.1) * x)
        for name, x in random_parameters(towers).items()
    }
    tokenizer = Tokenizer(ClipBpe(), 77, spec.start_token, 49407, 0, "clip")
    return ja.DualEncoder(replace(spec, band=(5, 6), text_band=(7, 8)), unflatten(params), tokenizer)


@pytest.fixture(scope="module")
def baked(b32, tmp_path_factory):
    """A function of a format: its folder, written once."""
    heads, root, done = baked_heads(b32, band=BAND), tmp_path_factory.mktemp("baked"), {}

    def write(to: str) -> Path:
        if to not in done:
            done[to] = root / to
            write_baked(b32, heads, done[to], to, methods="isoclip", details="band 10 20")
        return done[to]

    return write


def pixels(model, n=3):
    side = model.config.image.image_size
    return np.random.default_rng(1).normal(size=(n, side, side, 3)).astype(np.float32)


def ids(model, n=3):
    text = model.config.text
    tokens = np.random.default_rng(2).integers(0, text.vocabulary, (n, text.context)).astype(np.int32)
    tokens[:, -2] = text.vocabulary - 1  # CLIP's end token
    return tokens


def expected(model, projectors):
    """Embeddings of length one of images, and of token ids, by other projectors."""
    image = projectors.image(model.apply_image(model.params, pixels(model), projected=False))
    text = projectors.text(model.apply_text(model.params, ids(model), projected=False))
    return unit(image), unit(text)


def unit(x):
    x = np.asarray(x, np.float64)
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def assert_close(found, wanted):
    for x, y in zip(found, wanted, strict=True):
        np.testing.assert_allclose(unit(x), y, rtol=0, atol=TOLERANCE)


def embed(model):
    return (
        model.apply_image(model.params, pixels(model)),
        model.apply_text(model.params, ids(model)),
    )


class TestBake:
    """The library's function, without files."""

    @pytest.mark.long
    def test_isoclip_of_one_band(self, b32):
        assert_close(embed(ja.bake(b32, band=BAND)), expected(b32, ja.isoclip(b32.projectors, *BAND)))

    @pytest.mark.long
    def test_printed_bands_are_each_modalitys_own(self, b32):
        images, texts = ja.isoclip(b32.projectors, 5, 6).image, ja.isoclip(b32.projectors, 7, 8).text
        assert_close(embed(ja.bake(b32, "isoclip")), expected(b32, ja.Projectors(images, texts)))

    def test_whitened(self, b32):
        heads = ja.Projectors(ja.whiten(b32.projectors.image), ja.whiten(b32.projectors.text))
        assert_close(embed(ja.bake(b32, "whitened")), expected(b32, heads))

    def test_pca_keeps_the_width_and_the_embeddings(self, b32):
        """Q L Q^T in the head is `Subspace.project` behind it: not only the cosines are the same."""
        subspace = ja.principal_subspace(b32.encode_text(NAMES), rank=3)
        model = ja.bake(b32, "pca", subspace=subspace)
        assert model.config == b32.config
        for found, plain in zip(embed(model), embed(b32), strict=True):
            np.testing.assert_allclose(found, subspace.project(plain), rtol=0, atol=1e-5)

    def test_isoclip_and_then_pca(self, b32):
        subspace = ja.principal_subspace(b32.encode_text(NAMES), rank=4)
        model = ja.bake(b32, ("isoclip", "pca"), band=BAND, subspace=subspace)
        both = ja.isoclip(b32.projectors, *BAND)
        heads = ja.Projectors(subspace.project_head(both.image), subspace.project_head(both.text))
        assert_close(embed(model), expected(b32, heads))

    @pytest.mark.parametrize("modality", ["image", "text"])
    def test_one_head_alone(self, b32, modality):
        model = ja.bake(b32, band=BAND, modalities=[modality])
        before, after = flatten(b32.params), flatten(model.params)
        changed = {name for name, x in before.items() if not np.array_equal(x, after[name])}
        assert changed == {{"image": "img/head/kernel", "text": "txt/head/kernel"}[modality]}

    def test_it_claims_nothing_of_a_known_model(self, b32):
        model = ja.bake(replace(b32, spec=replace(b32.spec, name="clip-vit-base-patch32")), band=BAND)
        assert (model.name, model.spec.band) == ("clip-vit-base-patch32 + isoclip", None)

    @pytest.mark.long
    def test_a_linearised_mlp_head(self, siglip):
        """Its last layer is zero and a linear head follows: exactly what `model.projectors` stands for."""
        wanted = ja.isoclip(siglip.projectors, 2, 3)
        assert_close(embed(ja.bake(siglip, band=(2, 3), linearize=True)), expected(siglip, wanted))

    @pytest.mark.long
    def test_pca_behind_an_mlp_head_is_exact(self, siglip):
        subspace = ja.principal_subspace(embed(siglip)[1], rank=2)
        found = embed(ja.bake(siglip, "pca", subspace=subspace))
        assert_close(found, [unit(subspace.project(x)) for x in embed(siglip)])

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"methods": "isoclipp", "band": BAND}, "unknown method to bake 'isoclipp'.*isoclip"),
            ({"methods": ("pca", "isoclip")}, "methods are pca isoclip; expected one of"),
            ({"methods": ()}, "methods are none; expected one of"),
            ({"band": (60, 4)}, "k_top 60 .* k_bottom 4 removes all of the 64"),
            ({"band": (-1, 4)}, "k_top is -1"),
            ({"methods": "pca"}, "subspace is .*principal_subspace"),
            ({"band": BAND, "modalities": ["sound"]}, "unknown modality 'sound'"),
            ({"band": BAND, "modalities": []}, "modalities is empty"),
        ],
    )
    def test_what_it_refuses(self, b32, options, message):
        with pytest.raises(ja.JaxalignError, match=message):
            ja.bake(b32, **options)

    def test_an_mlp_head_is_linear_only_when_asked(self, siglip):
        with pytest.raises(ja.JaxalignError, match=r"is an MLP.*linearize=True.*--text-only"):
            ja.bake(siglip, band=(2, 3))

    def test_no_band_is_guessed(self, b32):
        with pytest.raises(ja.JaxalignError, match="prints no text band for small-b32"):
            ja.bake(replace(b32, spec=replace(b32.spec, text_band=None)))

    def test_the_layout_of_the_published_code(self, siglip):
        with pytest.raises(ja.JaxalignError, match="layout is 'reference'"):
            ja.bake(siglip.with_layout("reference"), band=(2, 3))


FORMATS = ("huggingface", "open_clip", "openai", "sentence-transformers", "jaxalign")


@pytest.mark.parametrize("to", FORMATS)
@pytest.mark.long
def test_what_is_written_is_read_as_the_methods_model(b32, baked, to):
    place = {"openai": "model.pt", "sentence-transformers": "0_CLIPModel"}.get(to, "")
    spec = "clip-vit-base-patch32" if to == "openai" else None
    again = ja.load(baked(to) / place, spec=spec)
    assert_close(embed(again), expected(b32, ja.isoclip(b32.projectors, *BAND)))
    lines = (baked(to) / "README.md").read_text().splitlines()
    assert len(lines) == 4
    assert "small-b32 with isoclip (band 10 20) in the projectors of images and texts" in lines[0]
    assert "nowhere" in lines[1]
    assert "appendix H" in lines[2]


def torch_ids(tokens):
    return pytest.importorskip("torch", reason="the extra `reference`").from_numpy(tokens).long()


def torch_pixels(model):
    torch = pytest.importorskip("torch", reason="the extra `reference`")
    return torch.from_numpy(np.ascontiguousarray(pixels(model).transpose(0, 3, 1, 2)))


@pytest.mark.reference
class TestLibraries:
    """Loaded by the libraries' own code."""

    @pytest.fixture
    def wanted(self, b32):
        return expected(b32, ja.isoclip(b32.projectors, *BAND))

    def test_transformers(self, b32, baked, wanted):
        transformers = pytest.importorskip("transformers", reason="the extra `reference`")
        model = transformers.CLIPModel.from_pretrained(baked("huggingface")).eval()
        found = [
            model.get_image_features(pixel_values=torch_pixels(b32)),
            model.get_text_features(input_ids=torch_ids(ids(b32))),
        ]
        assert_close([x.pooler_output.detach() for x in found], wanted)

    def test_transformers_tokens(self, b32, baked):
        transformers = pytest.importorskip("transformers", reason="the extra `reference`")
        processor = transformers.CLIPProcessor.from_pretrained(baked("huggingface"))
        options = {"padding": "max_length", "truncation": True, "max_length": 77}
        found = np.asarray(processor.tokenizer(TEXTS, **options)["input_ids"])
        ours = b32.tokenizer(TEXTS)
        np.testing.assert_array_equal(np.where(ours == 0, 49407, ours), found)

    def test_open_clip(self, b32, baked, wanted):
        open_clip = pytest.importorskip("open_clip", reason="the extra `reference`")
        name = f"local-dir:{baked('open_clip')}"
        model, _, _ = open_clip.create_model_and_transforms(name)
        model.eval()
        found = model.encode_image(torch_pixels(b32)), model.encode_text(torch_ids(ids(b32)))
        assert_close([x.detach() for x in found], wanted)
        np.testing.assert_array_equal(open_clip.get_tokenizer(name)(TEXTS), b32.tokenizer(TEXTS))

    def test_weights_as_a_file_for_open_clip(self, b32, baked, wanted, monkeypatch):
        """`pretrained=FILE` with a name of open_clip's, for which the small sizes stand in."""
        open_clip = pytest.importorskip("open_clip", reason="the extra `reference`")
        config = json.loads((baked("open_clip") / "open_clip_config.json").read_text())["model_cfg"]
        monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, "small", config)
        for file in (baked("open_clip") / "open_clip_model.safetensors", baked("openai") / "model.pt"):
            model, _, _ = open_clip.create_model_and_transforms("small", pretrained=str(file))
            model.eval()
            assert_close([model.encode_image(torch_pixels(b32)).detach()], wanted[:1])

    def test_openai(self, b32, baked, wanted):
        torch = pytest.importorskip("torch", reason="the extra `reference`")
        from open_clip.openai import build_model_from_openai_state_dict

        state = torch.load(baked("openai") / "model.pt", weights_only=True)
        model = build_model_from_openai_state_dict(state).float().eval()
        model.load_state_dict(state)  # again: building it made them half precision
        found = model.encode_image(torch_pixels(b32)), model.encode_text(torch_ids(ids(b32)))
        assert_close([x.detach() for x in found], wanted)

    def test_sentence_transformers(self, b32, baked):
        sentences = pytest.importorskip("sentence_transformers", reason="sentence-transformers")
        model = sentences.SentenceTransformer(str(baked("sentence-transformers")), device="cpu")
        wanted = ja.isoclip(b32.projectors, *BAND).text(b32.encode_text(TEXTS, projected=False))
        assert_close([model.encode(TEXTS)], [unit(wanted)])

    def test_siglip_of_transformers_with_its_text_head(self, siglip, tmp_path):
        transformers = pytest.importorskip("transformers", reason="the extra `reference`")
        heads = baked_heads(siglip, band=(2, 3), modalities=["text"])
        write_baked(siglip, heads, tmp_path / "s", "huggingface", methods="isoclip")
        model = transformers.SiglipModel.from_pretrained(tmp_path / "s").eval()
        tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "s")
        texts = ["a photo of a cat", "red apple, on blue"]
        options = {"padding": "max_length", "truncation": True, "max_length": 10, "return_tensors": "pt"}
        found = model.get_text_features(**tokenizer(texts, **options)).pooler_output.detach()
        wanted = ja.isoclip(siglip.projectors, 2, 3).text(siglip.encode_text(texts, projected=False))
        assert_close([found], [unit(wanted)])


@pytest.mark.long
def test_big_vision_has_a_place_for_a_linearised_head(siglip, tmp_path):
    heads = baked_heads(siglip, band=(2, 3), linearize=True)
    write_baked(siglip, heads, tmp_path / "s", "big_vision", methods="isoclip")
    again = ja.load(tmp_path / "s" / "model.npz")
    assert_close(embed(again), expected(siglip, ja.isoclip(siglip.projectors, 2, 3)))


@pytest.fixture(scope="module")
def source(b32, tmp_path_factory):
    """A folder of ours, and a file of class names."""
    folder = tmp_path_factory.mktemp("source")
    ja.save(b32, folder / "b32")
    (folder / "names.txt").write_text("\n".join(NAMES))
    return folder


@pytest.fixture
def run(source, tmp_path):
    """Runs `bake`; `{names}` is a file of class names."""

    def run(*words):
        words = [word.format(names=source / "names.txt") for word in words]
        return cli.main(["bake", str(source / "b32"), str(tmp_path / "out"), *words])

    return run


class TestCommand:
    """`jaxalign bake` of a folder of ours."""

    @pytest.mark.long
    def test_isoclip_then_pca_of_images(self, b32, run, tmp_path, capsys):
        methods = ["--method", "isoclip", "pca", "--band", "10", "20"]
        names = ["--class-names", "{names}", "--rank", "3"]
        assert run(*methods, *names, "--image-only", "--json", str(tmp_path / "said.json")) == 0
        texts = b32.encode_text([f"a photo of {name}" for name in NAMES])
        head = ja.principal_subspace(texts, 3).project_head(ja.isoclip(b32.projectors, *BAND).image)
        wanted = expected(b32, ja.Projectors(head, b32.projectors.text))
        assert_close(embed(ja.load(tmp_path / "out")), wanted)
        said = json.loads((tmp_path / "said.json").read_text())
        assert (said["format"], said["heads"]) == ("huggingface", ["image"])
        numbers = "rank 3, 6 texts of subspace paper, band 10 20 for images"
        assert f"projectors of images ({numbers})" in capsys.readouterr().out

    def test_help_says_what_the_heads_are_not_for(self, capsys):
        assert cli.main(["bake", "--help"]) == 0
        assert "appendix H of the IsoCLIP paper" in " ".join(capsys.readouterr().out.split())

    @pytest.mark.parametrize(
        ("words", "status", "message"),
        [
            (["--method", "isoclop"], 2, "isoclop"),
            (["--method", "pca", "whitened", "--class-names", "{names}"], 1, "methods are pca whitened"),
            (["--band", "40", "24"], 1, "leaves none of the 64 singular directions"),
            (["--band", "10"], 2, "--band"),
            (["--band", "10", "20", "--format", "onnx"], 2, "onnx"),
            (["--band", "10", "20", "--format", "big_vision"], 1, "big_vision cannot express what"),
            (["--image-only", "--text-only"], 2, "leave no head"),
            (
                ["--method", "whitened", "--band", "1", "1"],
                2,
                "--band is about isoclip; got --method whitened",
            ),
            (["--band", "1", "1", "--rank", "4"], 2, "--rank is about pca; got --method isoclip"),
            (["--method", "pca", "--class-names", "{names}.gone"], 1, "class names: "),
            (["--method", "pca", "--class-names", "{names}", "--rank", "6"], 1, "the rank of PCA<- is 6"),
        ],
    )
    def test_what_it_refuses(self, run, words, status, message, tmp_path, capsys):
        assert run(*words) == status
        said = capsys.readouterr().err
        assert said.count("\n") == 1
        assert message in said
        assert not list(tmp_path.iterdir())

    def test_a_place_that_is_taken(self, run, tmp_path, capsys):
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / "thesis.tex").touch()
        assert run("--band", "10", "20") == 1
        assert "out exists; choose another path" in capsys.readouterr().err
        assert [path.name for path in tmp_path.rglob("*")] == ["out", "thesis.tex"]

    @pytest.mark.long
    def test_embeddings_that_depart(self, run, tmp_path, monkeypatch, capsys):
        """The reload is of another model than the heads make: nothing stays."""
        real = baked_files.with_heads

        def other(model, heads, name):
            return real(model, baked_heads(model, band=(11, 20)), name)

        monkeypatch.setattr(baked_files, "with_heads", other)
        assert run("--band", "10", "20") == 1
        assert "depart from those of isoclip" in capsys.readouterr().err
        assert not list(tmp_path.iterdir())

    def test_a_disk_that_gives_back_other_bytes(self, run, tmp_path, monkeypatch, capsys):
        real = libraries.write_safetensors

        def write(tensors, path, dtype, metadata):
            real(tensors, path, dtype, metadata)
            content = bytearray(path.read_bytes())
            content[-1] ^= 1
            path.write_bytes(bytes(content))

        monkeypatch.setattr(libraries, "write_safetensors", write)
        assert run("--band", "10", "20") == 1
        assert "does not hold what was written" in capsys.readouterr().err
        assert not list(tmp_path.iterdir())
