"""The corpus of icons that the embedded models are trained on: what is in it, and what captions say."""

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from jaxalign.errors import JaxalignError
from jaxalign.eval.datasets.emoji import scenes
from jaxalign.eval.datasets.emoji.sprites import STYLES, read_emoji, read_sprites
from jaxalign.weights.availability import EMBEDDED

pytestmark = pytest.mark.usefixtures("tools")
SQUARE = '<path fill="currentColor" d="M2 2h20v20H2z"/>'
RED = '<path fill="#f00" d="M2 2h20v20H2z"/>'
INFO = {
    "name": "Hand Icons",
    "author": {"name": "Ann", "url": "https://ann.example"},
    "license": {"spdx": "MIT"},
}
WORDS = "spoon bell anchor tower castle ribbon candle basket saddle lantern"
KNOWN = (*WORDS.split(), "grinning", "cat", "square")


@pytest.fixture(scope="module")
def tools():
    patch = pytest.MonkeyPatch()
    patch.syspath_prepend(str(Path(__file__).parent.parent / "tools"))
    yield
    patch.undo()


def write_package(folder, **sets):
    """A folder as @iconify/json has it: each set a pair of its info and its file."""
    (folder / "json").mkdir(parents=True)
    (folder / "package.json").write_text('{"version": "1.2.3"}')
    (folder / "collections.json").write_text(json.dumps({prefix: info for prefix, (info, _) in sets.items()}))
    for prefix, (_, content) in sets.items():
        (folder / "json" / f"{prefix}.json").write_text(json.dumps({"width": 24, "height": 24, **content}))
    return folder


def drawings(*names, body=SQUARE):
    """Icons whose bodies differ."""
    return {name: {"body": body + f'<path d="M0 0h{i}"/>'} for i, name in enumerate(names)}


@pytest.fixture(scope="module")
def package(tools, tmp_path_factory):
    names = [f"{word}-outline" for word in WORDS.split()] + [
        "grinning-cats-outline",
        "square-outline",
        "zzyx",
    ]
    mono = {"icons": drawings(*names), "categories": {"Tools": ["spoon-outline"]}}
    colour = {"icons": drawings("spoon", "bell", body=RED)}
    return write_package(
        tmp_path_factory.mktemp("iconify"), hand=(INFO, mono), paint=(INFO | {"name": "Pencil Icons"}, colour)
    )


@pytest.fixture(scope="module")
def build(package):
    """Builds a corpus of `package`, with a dictionary of all of its words but one, and without resvg."""
    import icon_corpus
    import word_vectors

    def drawn(svg):
        pixels = np.zeros((48, 48, 4), np.uint8)
        pixels[4:44, 4:44] = (255 * ("#f00" in svg), 0, 0, 255)
        return pixels

    def build(target, **options):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(word_vectors, "read_wordnet", lambda folder: ({}, dict.fromkeys(KNOWN)))
            patch.setattr(icon_corpus, "render", drawn)
            patch.setattr(icon_corpus, "version", lambda package: "0.5")
            icon_corpus.build(package, wordnet=Path(), target=target, **options)

    return build


@pytest.fixture(scope="module")
def folder(build, tmp_path_factory):
    target = tmp_path_factory.mktemp("corpus")
    build(target)
    return target


@dataclass
class Settings:
    steps: int = 100
    full_steps: int = 1
    batch: int = 16
    kept_patches: int = 4
    seed: int = 1
    icon_share: float = 0.5


@pytest.fixture(scope="module")
def examples(folder):
    from icon_corpus import Corpus
    from training_batches import Examples

    return Examples.read(Corpus.read(folder, "web"))


@pytest.mark.parametrize(
    ("prefix", "change", "reason"),
    [
        ("hand", {}, None),
        ("hand", {"license": {"spdx": "CC-BY-SA-4.0"}}, "licence"),
        ("hand", {"license": {"spdx": "GPL-3.0"}}, "licence"),
        ("hand", {"license": {"title": "ours"}}, "licence"),
        ("hand", {"category": "Logos"}, "logos, whose names are no words"),
        ("devicon", {}, "logos, whose names are no words"),
        ("flagpack", {}, "flags, whose names are codes"),
        ("hand", {"category": "Emoji"}, "emoji, of which some are held out"),
        ("fluent-emoji-high-contrast", {}, "emoji, of which some are held out"),
        *((style, {}, "emoji, of which some are held out") for style in STYLES),
    ],
)
def test_sets_are_left_out_for_a_reason(prefix, change, reason):
    from icon_sets import left_out

    assert left_out(prefix, INFO | change) == reason


@pytest.mark.parametrize(
    ("name", "words", "style"),
    [
        ("bell-outline", "bell", "outline"),
        ("bell-24-filled", "bell", "filled"),
        ("bell-off-outline-sharp", "bell off", "outline sharp"),
        ("bell-two-tone", "bell", ""),
        ("home-02", "home", ""),
        ("grid2", "grid", ""),
        ("chart-line", "chart line", ""),  # in a set that does not end so often
        ("outline", "outline", ""),  # a name is never all style
        ("traffic-light", "traffic light", ""),
    ],
)
def test_style_is_told_from_the_name(name, words, style):
    from icon_sets import split_id, spoken_style, style_tokens

    content = {
        "icons": dict.fromkeys([f"a{i}" for i in range(99)]),
        "suffixes": {"sharp": "Sharp", "two-tone": "T"},
    }
    got, styles = split_id(name, *style_tokens(content))
    assert (" ".join(got), spoken_style("hand", styles)) == (words, style)


def test_a_frequent_ending_is_a_style():
    from icon_sets import style_tokens

    lines = {"icons": dict.fromkeys([f"a{i}-line" for i in range(9)])}
    assert "line" in style_tokens(lines)[1]
    assert "line" not in style_tokens({"icons": dict.fromkeys("abc")})[1]


def test_only_drawings_are_read():
    from icon_sets import IconSet, read_icons

    bodies = {
        "bell": SQUARE,
        "moving": '<path d="M0 0"><animate attributeName="d"/></path>',
        "file": '<image href="/etc/hostname"/>',
        "used": '<use href="https://example.org/a.svg#b"/>',
        "styled": '<path style="fill:url(file:///x)" d="M0 0"/>',
        "entity": "<!ENTITY a 'b'><path/>",
        "text": "<text>bell</text>",
    }
    icons = {name: {"body": body} for name, body in bodies.items()} | {
        "gone": {"body": SQUARE, "hidden": True}
    }
    aliases = {
        "chime": {"parent": "bell"},
        "turned": {"parent": "bell", "rotate": 1},
        "loop": {"parent": "pool"},
        "pool": {"parent": "loop"},
    }
    reasons = Counter()
    described = IconSet("hand", "Hand", "", "", "MIT", "", "", False)
    found = read_icons(described, {"icons": icons, "aliases": aliases}, reasons)
    assert [icon.words for icon in found] == [("bell",), ("chime",)]
    assert reasons == {
        "an unknown element": 5,
        "animated": 1,
        "withdrawn": 1,
        "a turned alias": 1,
        "an alias of nothing": 2,
    }


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("cat", "cat"),
        ("cats", "cat"),
        ("person with cats", "cat"),
        ("category", None),
        ("catfish", None),
        ("open book", "open book"),
        ("book and open door", "open book"),
        ("women hats", "woman's hat"),
        ("honeypot", "honey pot"),
        ("teacup", None),
        ("circle red small", "red circle"),
        ("circle", None),
        ("snow cloud", "cloud with snow"),
        ("boxing glove", None),
        ("wolves", "wolf"),
        ("x-ray", "x-ray"),
        ("xray", "x-ray"),
        ("x-rays", "x-ray"),
        ("ray", None),
    ],
)
def test_a_held_out_name_is_found_in_any_form_and_order(text, name):
    from held_out_names import Names

    names = ("cat", "open book", "woman's hat", "honey pot", "red circle", "cloud with snow", "wolf", "x-ray")
    assert Names(names).borne_by(text.split()) == name


def test_every_held_out_name_bears_itself():
    from held_out_names import Names, held_out_names
    from training_words import caption_words

    names = Names(held_out_names())
    assert len(held_out_names()) == 341
    for name in held_out_names():
        for text in (name, name.replace(" ", "-"), name.replace(" ", ""), f"{name} box"):
            assert names.borne_by(text.split()), text
    assert names.borne_by(sorted(caption_words())) is None


def test_strict_bears_no_held_out_name(folder, examples):
    from held_out_names import Names, held_out_names
    from icon_corpus import Corpus
    from training_batches import Examples, IconNames, draw_pairs

    web, strict = (Corpus.read(folder, variant) for variant in ("web", "strict"))
    assert set(web.names) - set(strict.names) == {"grinning cats"}
    assert "zzyx" not in web.names  # no word
    assert "pencil" in web.spoken_words() - strict.spoken_words()  # the title of a set, and a held-out name
    names = Names(held_out_names())
    examples = Examples(examples.emoji, examples.sprites, IconNames(strict))
    for seed in range(60):
        _, captions = draw_pairs(examples, 8, 8, np.random.default_rng(seed))
        assert [c for c in captions if names.borne_by(c.split())] == []
        assert all("square" not in c or c.split()[-1] == "square" for c in captions)  # never a red square


def test_a_corpus_is_what_its_inputs_are(build, folder, tmp_path, capsys):
    import icon_corpus

    before = icon_corpus.read_table(folder)
    build(folder)
    assert "is this corpus already" in capsys.readouterr().out
    build(tmp_path, per_name=1)
    after = icon_corpus.read_table(tmp_path)
    assert before["identity"] != after["identity"]
    assert sum(len(e["drawings"]) for e in after["names"]) == len(after["names"])
    corpus = icon_corpus.Corpus.read(folder, "web")
    spoon = corpus.rows[corpus.names.index("spoon")]
    assert sorted(spoon[:, 0]) == [0, 1]  # one without colours, one in red
    assert corpus.colour.shape[0] == 2
    assert corpus.colour[0, 24, 24].tolist() == [255, 0, 0, 255]
    np.save(tmp_path / "alpha.npy", np.zeros((1, 48, 48), np.uint8))
    with pytest.raises(JaxalignError, match="build the corpus again"):
        icon_corpus.Corpus.read(tmp_path, "web")


def test_drawings_are_rendered_premultiplied():
    pytest.importorskip("resvg_py")
    from icon_corpus import render_all
    from icon_sets import Icon, document

    bodies = [SQUARE, RED.replace("/>", ' opacity=".5"/>'), '<path d="M0 0"/>', '<path d="']
    drawn = [document({"body": body}, {"width": 24, "height": 24}) for body in bodies]
    icons = [Icon("hand", (str(i),), (), "", "", 24, "", svg) for i, (svg, _) in enumerate(drawn)]
    (square, alpha), (red, pixels) = render_all(icons)  # one shows nothing, one is no SVG
    assert (square.words, red.words) == (("0",), ("1",))
    assert alpha.shape == (48, 48)
    assert (alpha[5:43, 5:43] == 255).all()
    # half of 255 is rounded up or down
    np.testing.assert_allclose(pixels[24, 24], [128, 0, 0, 128], atol=1)


def test_a_step_is_drawn_from_seed_and_step_alone(examples):
    from training_batches import draw_batch
    from training_words import Words, build_tokenizer, vocabulary_words

    words = Words(build_tokenizer(vocabulary_words(examples.icons.corpus.spoken_words())))
    first = [draw_batch(examples, words, True, Settings(), step) for step in (3, 4)]
    again = draw_batch(examples, words, True, Settings(), 4)
    for one, two, other in zip(first[1], again, first[0], strict=True):
        np.testing.assert_array_equal(one, two)
        assert (one != other).any()
    pixels, tokens, kept = again
    assert (pixels.shape, tokens.shape, kept.shape) == ((16, 48, 48, 3), (16, 20), (16, 4))
    assert not (tokens == 1).any()  # every word is known


def test_names_of_a_batch_differ(examples):
    named = [
        examples.icons.draw(6, ["ringing bell", "anchors"], np.random.default_rng(i))[0] for i in range(40)
    ]
    names = [{examples.icons.corpus.names[k] for k in own} for own in named]
    assert all(len(own) == 6 and not own & {"bell", "anchor"} for own in names)
    assert set().union(*names) == {*examples.icons.corpus.names} - {"bell", "anchor"}
    with pytest.raises(JaxalignError, match="take fewer"):
        examples.icons.draw(12, ["bell"], np.random.default_rng(0))


def test_a_share_of_icons_needs_icons(examples, folder, tmp_path):
    from icon_corpus import Corpus
    from training_batches import Examples, draw_pairs, keep_to_corpus

    with pytest.raises(JaxalignError, match="--icons"):
        draw_pairs(Examples(examples.emoji, examples.sprites), 8, 4, np.random.default_rng(0))
    keep_to_corpus(tmp_path, Corpus.read(folder, "web"))
    keep_to_corpus(tmp_path, Corpus.read(folder, "web"))
    for other in (Corpus.read(folder, "strict"), None):
        with pytest.raises(JaxalignError, match="another folder"):
            keep_to_corpus(tmp_path, other)


@pytest.fixture
def read_others(tmp_path, monkeypatch):
    """Reads the emoji by other hands of a package that draws a training name twice, and a held-out one."""
    import other_emoji
    from PIL import Image

    trained, held_out = (next(e for e in read_emoji() if e.split == split) for split in ("train", "test"))
    glued = trained.icon.replace("-", "")
    package = write_package(
        tmp_path,
        **{
            "fxemoji": (INFO, {"icons": drawings(glued, "nosuchthing", body=RED)}),
            "streamline-emojis": (INFO, {"icons": drawings(f"{trained.icon}-2", held_out.icon, body=RED)}),
        },
    )
    monkeypatch.setattr(other_emoji, "render", lambda svg: Image.new("RGBa", (48, 48)))
    return trained, held_out, lambda names_too: other_emoji.OtherEmoji.read(package, held_out=names_too)


def test_emoji_by_other_hands_are_found_by_their_names(read_others):
    trained, held_out, read = read_others
    assert [e.name for e, _ in read(False).drawings] == [trained.name] * 2
    assert [e.name for e, _ in read(True).drawings] == [trained.name] * 2 + [held_out.name]
    assert read(False).identity != read(True).identity == read(True).identity


def test_other_hands_add_drawings_without_a_style(read_others, examples, tmp_path):
    from training_batches import Examples, keep_to_corpus

    trained, held_out, read = read_others
    found = Examples.read(examples.icons.corpus, read(True))
    styles = {e.name: [style for style, _ in own] for e, own in zip(found.emoji, found.sprites, strict=True)}
    assert styles[held_out.name] == [""]
    assert styles[trained.name] == [*trained.styles, "", ""]
    assert len(found.emoji) == len(examples.emoji) + 1
    said = {scenes.draw_caption("goose", (), "", None, np.random.default_rng(i)) for i in range(40)}
    assert all(len(caption.split()) == 4 for caption in said)  # "a picture of goose"
    keep_to_corpus(tmp_path, examples.icons.corpus, read(True))
    for other in (read(False), None):
        with pytest.raises(JaxalignError, match="another folder"):
            keep_to_corpus(tmp_path, examples.icons.corpus, other)


def test_a_run_keeps_to_the_model_that_it_went_on_from(examples, tmp_path):
    from training_batches import keep_to_corpus

    clip, siglip = (EMBEDDED / name for name in ("emoji-clip", "emoji-siglip"))
    for _ in range(2):
        keep_to_corpus(tmp_path, examples.icons.corpus, None, clip)
    for other in (siglip, None):
        with pytest.raises(JaxalignError, match="another folder"):
            keep_to_corpus(tmp_path, examples.icons.corpus, None, other)


def test_many_images_are_composed_as_one_is():
    """Pasting, and the shades of the backgrounds: the data sets' code and the fast one give the same."""
    from training_images import INK_VALUES, backgrounds, draw_layout, paste_all

    sprites = [sprite for _, _, sprite in read_sprites("train")][::400]
    rng = np.random.default_rng(0)
    plain = np.arange(len(sprites)) % 3 == 0
    layout = draw_layout(plain, plain, rng)
    canvas = backgrounds(layout, rng)
    empty = np.asarray(canvas).reshape(-1, 48, 48, 3).astype(np.float32)
    got = paste_all(canvas, [s.convert("RGBa") for s in sprites], layout, np.zeros(len(sprites), int))
    for i, sprite in enumerate(sprites):
        side, left, top = (int(values[i]) for values in (layout.side, layout.left, layout.top))
        expected = scenes.paste(empty[i].copy(), sprite, side, left, top)
        assert np.abs(got[i].astype(int) - expected).max() <= 1
        context = layout.context(i)
        assert (context is None) == plain[i]
        near = INK_VALUES[layout.background[i]] if context else np.full(3, 255)
        assert np.abs(empty[i] - near).reshape(-1, 3).max(0).max() <= 14 + 55 + 1


def test_words_are_tokenized_as_texts_are():
    from training_words import Words, build_tokenizer, vocabulary_words

    tokenizer = build_tokenizer(vocabulary_words())
    texts = [f"a photo of {e.name}, {k}" for e in read_emoji() for k in e.keywords[:1]][::7]
    for row, text in zip(Words(tokenizer).tokenize(texts, True), texts, strict=True):
        ids = [2, *tokenizer.encode(text, add_special_tokens=False).ids][:19]
        assert row.tolist() == [*ids, 3] + [0] * (19 - len(ids))


def test_the_notice_names_every_set_that_is_used(folder, tmp_path, capsys):
    from icon_corpus import notice

    content = {"icons": {}, "lastModified": 86400}
    notice(
        folder, write_package(tmp_path / "p", hand=(INFO, content), other=(INFO | {"name": "Other"}, content))
    )
    said = capsys.readouterr().out
    assert "`@iconify/json` 1.2.3" in said
    assert "| Hand Icons (`hand`) | of 1970-01-02 | Ann, <https://ann.example> | MIT |" in said
    assert "Other" not in said
