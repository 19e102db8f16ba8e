"""Embeddings in words: decoding against its definition, captioners on disk, the command, the demo's part."""

import json
import re
from dataclasses import asdict, replace
from itertools import islice

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import WORDS, tiny_model
from PIL import Image

import jaxalign as ja
from jaxalign.captioning.captioner import Captioner
from jaxalign.errors import JaxalignError
from jaxalign.eval import captioning, demo_words
from jaxalign.eval.cli import main
from jaxalign.eval.datasets import Examples
from jaxalign.eval.datasets.emoji import scenes
from jaxalign.eval.datasets.emoji.sprites import read_emoji, read_sprites
from jaxalign.eval.report import build_report
from jaxalign.eval.tasks.runs import Run
from jaxalign.eval.tasks.workspace import Workspace
from jaxalign.models.caption_decoder import CaptionDecoder, CaptionDecoderConfig, MapperConfig
from jaxalign.weights import captioner_files
from jaxalign.weights.captioner_files import CaptionerFacts, read_captioner_folder, write_captioner
from jaxalign.weights.identity import Origin

STOP = WORDS.index("<end>")
MAPPERS = {"mlp": MapperConfig("mlp", 3, 10), "transformer": MapperConfig("transformer", 3, 12, 2, 2, 2)}


def tiny_captioner(kind: str = "mlp", embedding: int = 12) -> Captioner:
    """Of random weights that say different things of different embeddings."""
    config = CaptionDecoderConfig(embedding, MAPPERS[kind], len(WORDS), 12, 16, 2, 4, 20)
    given = jnp.zeros((1, embedding)), jnp.zeros((1, 1), jnp.int32)
    shapes = jax.eval_shape(CaptionDecoder(config).init, jax.random.key(0), *given)["params"]
    rng = np.random.default_rng(10)
    draw = lambda leaf: jnp.asarray(rng.normal(size=leaf.shape) * 0.6, jnp.float32)
    params = jax.tree.map(draw, shapes)
    vocabulary = tiny_model("emoji-clip").require_tokenizer().vocabulary
    return Captioner("tiny", config, params, vocabulary, STOP, normalize=True)


def logits_of(captioner: Captioner):
    """Logits of whole texts, from embeddings [n, d] and tokens [n, l]."""
    decoder = CaptionDecoder(captioner.config)
    return jax.jit(lambda *given: decoder.apply({"params": captioner.params}, *given))


def facts_of(captioner: Captioner) -> CaptionerFacts:
    return CaptionerFacts("tiny", "a test", "none", "tiny", "", True, "<end>", captioner.config)


@pytest.fixture(scope="module")
def captioner():
    return tiny_captioner()


@pytest.fixture(scope="module")
def places(tmp_path_factory, captioner):
    """Folders of a tiny model and its captioner, two images, and names of classes."""
    folder = tmp_path_factory.mktemp("captions")
    ja.save(tiny_model("emoji-clip"), folder / "model")
    write_captioner(folder / "captioner", facts_of(captioner), captioner.params, captioner.vocabulary, None)
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        Image.fromarray(rng.integers(0, 256, (30, 24, 3), np.uint8)).save(folder / f"{name}.png")
    (folder / "names.txt").write_text("\n".join(WORDS[4:]))
    return folder


@pytest.mark.parametrize("kind", MAPPERS)
def test_a_token_at_a_time_is_the_whole_text(kind):
    captioner = tiny_captioner(kind)
    embeddings = np.random.default_rng(1).normal(size=(5, 12)).astype(np.float32)
    length = np.linalg.norm(embeddings, axis=1, keepdims=True)
    whole = logits_of(captioner)
    expected = []
    for row in embeddings / length:
        tokens: list[int] = []
        while len(tokens) < 9 and STOP not in tokens:
            given = np.array([tokens + [0] * (9 - len(tokens))], np.int32)  # of which none sees what follows
            tokens.append(int(np.asarray(whole(row[None], given))[0, 2 + len(tokens)].argmax()))
        expected.append(tokens)
    assert len(set(map(tuple, expected))) > 1
    said = captioner.captions(embeddings, batch_size=2)
    assert said == [text.strip() for text in captioner.vocabulary.decode(expected)]
    assert captioner.captions(3 * embeddings) == said  # of which only the direction counts
    assert captioner.captions(embeddings, max_tokens=2) == [
        text.strip() for text in captioner.vocabulary.decode([tokens[:2] for tokens in expected])
    ]


def test_one_beam_is_greedy_and_more_are_no_worse(captioner):
    from jaxalign.captioning.decoding import beam_search, greedy

    embeddings = jnp.asarray(np.random.default_rng(3).normal(size=(4, 12)), jnp.float32)
    given = (captioner.config, captioner.params, embeddings, STOP, 9)
    for found, expected in zip(beam_search(*given, 1), greedy(*given), strict=True):
        np.testing.assert_array_equal(found, expected)
    whole = logits_of(captioner)

    def mean(tokens, lengths):
        logits = np.asarray(whole(embeddings, tokens))[:, 2:-1].astype(np.float64)
        log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        said = np.take_along_axis(log_p, np.asarray(tokens)[..., None], -1)[..., 0]
        return np.where(np.arange(9) < np.asarray(lengths)[:, None], said, 0).sum(1) / lengths

    assert (mean(*beam_search(*given, 8)) >= mean(*greedy(*given)) - 1e-6).all()  # a mean of float32 logits


def test_a_captioner_comes_back_from_disk(captioner, places):
    again = ja.load_captioner(places / "captioner")
    embeddings = np.random.default_rng(4).normal(size=(3, 12))
    assert again.captions(embeddings) == captioner.captions(embeddings)
    assert (again.config, again.stop_token, again.normalize) == (captioner.config, STOP, True)


def change_config(folder, change) -> None:
    content = json.loads((folder / "config.json").read_text())
    change(content)
    (folder / "config.json").write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.update(version=2), "and version 1"),
        (lambda c: c.update(widht=2), "unknown key 'widht'"),
        (lambda c: c["decoder"].update(width=24), "do not fit the configuration: .* misshapen"),
        (lambda c: c["decoder"].update(heads=5), "width 16 is not a multiple of 5 heads"),
        (lambda c: c["decoder"].update(context=3), "a prefix of 3 tokens leaves none of 3 positions"),
        (lambda c: c["decoder"].update(depth=5000), "5000 blocks"),
        (lambda c: c["decoder"]["mapper"].update(kind="other"), "kind is 'other'; expected 'mlp' or"),
        (lambda c: c.update(stop="<stop>"), "has no token '<stop>'"),
    ],
)
def test_a_changed_folder_is_refused_by_name(captioner, tmp_path, change, message):
    write_captioner(tmp_path, facts_of(captioner), captioner.params, captioner.vocabulary, jnp.float16)
    change_config(tmp_path, change)
    with pytest.raises(JaxalignError, match=message):
        read_captioner_folder(tmp_path)


def test_a_captioner_of_earlier_weights_is_refused(captioner, tmp_path, monkeypatch):
    monkeypatch.setattr(captioner_files, "EMBEDDED", tmp_path)
    facts = replace(facts_of(captioner), model="emoji-clip", weights="of before")
    write_captioner(
        tmp_path / "emoji-clip-captioner", facts, captioner.params, captioner.vocabulary, jnp.float16
    )
    with pytest.raises(JaxalignError, match=r"train it again: tools/train_captions\.py"):
        ja.load_captioner("emoji-clip")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"name_or_path": ""}, "expected a model's name, or a path"),
        ({"name_or_path": 3}, "expected a model's name, or a path"),
        ({"name_or_path": "emoji-dlip"}, "there is no captioner 'emoji-dlip'; .* emoji-clip"),
        ({"name_or_path": "emoji-clip", "normalize": True}, "holds its own facts"),
    ],
)
def test_wrong_arguments_of_load_captioner(given, message):
    with pytest.raises(JaxalignError, match=message):
        ja.load_captioner(**given)


def caption(places, *arguments: str) -> int:
    own = ["--model", str(places / "model"), "--store", str(places / "store")]
    return main(["caption", *own, *arguments])


def test_the_command_says_what_each_method_leaves(places, captioner, capsys):
    images = [str(places / f"{name}.png") for name in "ab"]
    methods = ["--methods", "image-image", "isoclip", "pca", "--band", "1", "2"]
    methods += ["--rank", "2", "--class-names", str(places / "names.txt")]
    given = [*images, *methods, "--captioner", str(places / "captioner"), "--json", str(places / "said.json")]
    assert caption(places, *given) == 0
    out = capsys.readouterr().out
    model = ja.load(places / "model")
    plain = model.encode_image(images)
    texts = model.encode_text([f"a photo of {name}" for name in WORDS[4:]])
    pre = model.encode_image(images, projected=False)
    expected = {
        "image-image": plain,
        "isoclip (1, 2)": ja.isoclip(model.projectors, 1, 2).image(pre),
        "pca (rank 2, paper)": ja.principal_subspace(texts, 2).project(plain),
    }
    said = json.loads((places / "said.json").read_text())
    assert [image["image"] for image in said["images"]] == images
    for title, embeddings in expected.items():
        captions = captioner.captions(embeddings)
        assert [image["captions"][title] for image in said["images"]] == captions
        assert all(text in out for text in captions)
    assert [method["method"] for method in said["methods"]] == ["image-image", "isoclip", "pca"]


def test_images_of_a_folder_and_what_is_left_out(places, capsys):
    (places / "broken.png").write_bytes(b"no image")
    given = ["--captioner", str(places / "captioner"), "--methods", "image-image"]
    assert caption(places, str(places / "a.png"), str(places / "broken.png"), *given) == 1
    assert "broken.png" in capsys.readouterr().err
    left_out = ["--unreadable", "leave-out"]
    assert caption(places, str(places / "broken.png"), str(places / "a.png"), *given, *left_out) == 0
    assert "left out: " in capsys.readouterr().err
    assert caption(places, str(places / "broken.png"), *given, *left_out) == 1
    assert "none of the images can be read" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "status", "message"),
    [
        (["a.png", "--dataset", "emoji"], 2, "got images and --dataset emoji; give one of both"),
        (["a.png", "--split", "test"], 2, "--split is about a data set"),
        (["a.png", "--beams", "0"], 2, "--beams is 0; expected 1 or more"),
        (["--max-queries", "0"], 2, "--max-queries is 0; expected 1 or more"),
        (["none.png"], 1, "none.png"),
        (["a.png", "--methods", "pre"], 1, "pre is what comes before the projector"),
        (["a.png", "--methods", "oti"], 1, "oti optimises each image"),
        (["a.png", "--methods", "pca-mean"], 1, "give one \\(--dataset\\), or take pca"),
        (["a.png", "--captioner", "wide"], 1, "gives embeddings of width 12, and the captioner tiny takes 9"),
        (["a.png", "--captioner", "none"], 1, "there is no captioner '.*none'"),
        (["a.png", "--captioner", "captioner", "--normalize", "no"], 1, "holds its own facts"),
        (["a.png"], 1, "no captioner comes with tiny-emoji-clip"),
    ],
)
def test_bad_input_is_one_line(places, capsys, given, status, message):
    if not (places / "wide").exists():
        wide = tiny_captioner(embedding=9)
        write_captioner(places / "wide", facts_of(wide), wide.params, wide.vocabulary, None)
    paths = {name: str(places / name) for name in ("a.png", "none.png", "captioner", "wide", "none")}
    arguments = [paths.get(word, word) for word in given]
    if "--captioner" not in given and len(given) > 1:
        arguments += ["--captioner", paths["captioner"]]
    assert caption(places, *arguments, "--class-names", str(places / "names.txt")) == status
    said = capsys.readouterr().err.strip()
    assert len([line for line in said.splitlines() if line.startswith("jaxalign: error:")]) == 1
    assert re.search(message, said), said


def test_a_label_is_named_by_its_words_in_a_row():
    captions = ["a photo of red apple, fruit on gray background", "a photo of red pineapple", "apple red"]
    assert captioning.share_named(captions, ["red apple"] * 3) == pytest.approx(100 / 3)
    assert captioning.share_named(captions, ["red apple , fruit"] * 3) == pytest.approx(100 / 3)
    assert captioning.share_hinted(captions, ["fruit of the day"] * 3) == pytest.approx(100 / 3)


def demo_queries() -> Examples:
    rng = np.random.default_rng(0)
    names = ("cat", "<b>dog</b>")
    return Examples(
        dataset="emoji-scenes",
        split="queries",
        version="1",
        images=rng.integers(0, 256, (4, 24, 24, 3), np.uint8),
        labels={"emoji": np.array([0, 1, 0, 1], np.int32), "background": np.zeros(4, np.int32)},
        label_names={"emoji": names, "background": ("blue",)},
        captions=(),
        file_names=tuple("abcd"),
    )


def test_queries_of_the_demo_in_words(captioner, tmp_path):
    model, queries = tiny_model("emoji-clip"), demo_queries()
    workspace = Workspace(store=tmp_path)
    facts = {"task": "emoji", "version": "1"}
    runs = [
        Run("image-retrieval", {"method": name, **facts, **more}, {"mAP": 1.0})
        for name, more in {
            "image-image": {},
            "pre": {},
            "isoclip": {"band": [1, 1]},
            "pca": {"rank": 4},
            "pca-rank2": {"rank": 2},
            "oti": {},
        }.items()
    ]
    names = tuple(WORDS[4:])
    words = demo_words.caption_queries(workspace, model, captioner, queries, runs, names)
    assert list(words.captions) == ["image-image", "isoclip", "pca", "pca-rank2"]
    assert words.captions["image-image"] == captioner.captions(model.encode_image(queries.images))
    assert words.to_json()["pca"]["of"].keys() == set(queries.ids)
    page = build_report(runs[:1], findings={"tiny": ["It finds."]}, words={"tiny": words.shown(2)})
    assert page.count("What is left in an embedding, in words") == 1
    assert "<b>dog" not in page
    assert "&lt;b&gt;dog" in page
    for said in words.captions.values():
        assert said[0] in page


@pytest.fixture(scope="module")
def held_out():
    """Two dozen scenes of emoji that the model has not seen: embeddings, and their backgrounds."""
    rng = np.random.default_rng(5)
    images, backgrounds = [], []
    for _, _, sprite in islice(read_sprites("test"), 0, None, 90):
        context = scenes.draw_context(rng)
        images.append(scenes.compose_scene(sprite, context, rng))
        backgrounds.append(context.background)
    return np.asarray(ja.load("emoji-clip").encode_image(np.stack(images))), backgrounds


def test_what_pca_removes_is_no_longer_said(held_out):
    """The captioner that ships: it sees the background, and after PCA<- to 16 directions it guesses."""
    embeddings, backgrounds = held_out
    captioner = ja.load_captioner("emoji-clip")
    names = [emoji.name for emoji in read_emoji() if emoji.split == "train"]
    subspace = ja.principal_subspace(
        ja.load("emoji-clip").encode_text([f"a photo of {n}" for n in names]), 16
    )
    labels = [f"{background} background" for background in backgrounds]
    before = captioner.captions(embeddings)
    after = captioner.captions(subspace.project(embeddings))
    assert captioning.share_named(before, labels) > 80
    assert captioning.share_named(after, labels) < 30  # one in ten by chance


def test_other_weights_of_the_same_name_have_no_captioner(tmp_path):
    model = ja.load("emoji-clip")
    assert captioning.own_captioner(model) is not None
    assert captioning.own_captioner(ja.load("emoji-clip", dtype="bfloat16")) is not None
    params = jax.tree.map(lambda x: x + 1, model.params)
    other = replace(model, params=params, origin=Origin.of(model.spec, params))
    assert other.name == "emoji-clip"
    assert captioning.own_captioner(other) is None
    with pytest.raises(JaxalignError, match="no captioner comes with emoji-clip"):
        captioning.find_captioner(other)


def test_the_captioner_that_ships_is_small_and_says_where_it_is_from():
    folder = captioner_files.EMBEDDED / "emoji-clip-captioner"
    assert sum(file.stat().st_size for file in folder.iterdir()) < 1e6
    facts = json.loads((folder / "config.json").read_text())
    assert facts["model"] == "emoji-clip"
    assert facts["decoder"] == asdict(ja.load_captioner("emoji-clip").config)
