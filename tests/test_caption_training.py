"""The tool that trains captioners: its words, what it says of images, and one step."""

import jax
import numpy as np
import pytest

import jaxalign as ja
from jaxalign.eval.datasets.emoji import scenes
from jaxalign.eval.datasets.emoji.sprites import read_emoji
from jaxalign.models.caption_decoder import CaptionDecoder, CaptionDecoderConfig, MapperConfig
from tools import train_captions
from tools.train_captions import Facts, Training, Words

T = Training(steps=3, batch=4, images=6, warmup=1)


@pytest.fixture(scope="module")
def words():
    return Words.of(ja.load("emoji-clip"))


@pytest.fixture(scope="module")
def facts():
    return [fact for _, fact in train_captions.draw_images(6, 0)]


def test_words_have_the_vectors_of_the_model(words):
    model = ja.load("emoji-clip")
    ids, table = model.require_tokenizer().vocabulary, model.params["txt"]["Embed_0"]["embedding"]
    texts = [emoji.name for emoji in read_emoji()]
    for own, theirs in zip(words.vocabulary.encode(texts), ids.encode(texts), strict=True):
        np.testing.assert_array_equal(words.table[own], np.asarray(table)[theirs])
    assert len(words.vocabulary) == len(words.table) <= len(table)


def test_words_of_held_out_names_alone_take_no_part_in_the_softmax(words):
    known = set(words.known)
    spoken = words.vocabulary.encode(["a large noto photo of dotted gray background at the top left"])[0]
    assert set(spoken) <= known
    assert words.learns[spoken].all()
    names = {
        e.split: {w for o in read_emoji() if o.split == e.split for w in o.name.split()} for e in read_emoji()
    }
    alone = [i for i in range(len(words.table)) if i not in known]
    assert alone
    assert not {words.vocabulary.backend.id_to_token(i) for i in alone} & names["train"]


def test_a_caption_says_what_there_is_and_no_background_of_an_emoji_on_white():
    context = scenes.Context("gray", "dotted", "small", "top left")
    rng = np.random.default_rng(0)
    said = [train_captions.describe(Facts("goose", ("bird",), "noto", context), rng) for _ in range(200)]
    assert any(text.endswith("of goose at the top left on dotted gray background") for text in said)
    assert 0.7 < np.mean(["gray background" in text for text in said]) < 0.9
    plain = [train_captions.describe(Facts("goose", (), "noto", None), rng) for _ in range(50)]
    assert {text.rpartition(" of ")[2] for text in plain} == {"goose"}


def test_goals_of_a_batch_are_its_captions(words, facts):
    batch = train_captions.draw_batch(words, np.zeros((6, 128), np.float32), facts, T, 0)
    goals = words.known[batch.goals[batch.weights > 0]]
    np.testing.assert_array_equal(goals, batch.tokens.reshape(-1)[batch.places[batch.weights > 0]])
    again = train_captions.draw_batch(words, np.zeros((6, 128), np.float32), facts, T, 0)
    np.testing.assert_array_equal(batch.tokens, again.tokens)


@pytest.mark.long
def test_the_loss_of_a_step_is_that_of_the_decoder(words, facts):
    """Of the words of the captions, each after those before it, by the decoder's own logits."""
    embeddings = np.random.default_rng(1).normal(size=(6, 128)).astype(np.float32)
    batch = train_captions.draw_batch(words, embeddings, facts, T, 0)
    mapper, context = MapperConfig("mlp", 2, 8), 2 + train_captions.CONTEXT
    config = CaptionDecoderConfig(128, mapper, len(words.table), context, 8, 1, 2, 8)
    params = train_captions.initial_params(config, words, 0)
    optimizer = train_captions.make_optimizer(T)
    whole = train_captions.with_words(params, words)
    logits = CaptionDecoder(config).apply({"params": whole}, batch.embeddings, batch.tokens)
    log_p = np.asarray(jax.nn.log_softmax(np.asarray(logits)[:, 1:-1][..., words.known]))
    rows, columns = np.divmod(batch.places[batch.weights > 0], train_captions.CONTEXT)
    expected = -log_p[rows, columns, batch.goals[batch.weights > 0]].mean()
    step = train_captions.make_step(config, words, optimizer)
    _, _, loss = step(params, optimizer.init(params), batch)
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)  # of float32 sums over a vocabulary
