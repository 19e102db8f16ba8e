"""Train the captioner of an embedded model on its images of the training names; put it into the package.

    python tools/train_captions.py emoji-clip --state /tmp/emoji-clip-captions

After a model was trained anew, so is its captioner: it knows the weights that it learned from. It takes a
quarter of an hour on one core, and goes on where it stopped by what is in the state folder.

The decoder is ClipCap's with a small GPT-2: two blocks, words 64 wide. What a name means that no caption has
comes from the model's own word vectors, which the decoder sees through one learned linear map; such words
take no part in the softmax while it learns, and all do when it speaks. A caption says four of five things
about a scene, and that of an emoji on white says nothing of a background: so the decoder falls silent where
an embedding has none. Embeddings are computed once; captions of step s are drawn from (seed, s) alone.
"""

import hashlib
import json
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import flax.serialization
import jax
import jax.numpy as jnp
import numpy as np
import optax
import tokenizers
import tyro

import jaxalign as ja
from jaxalign.eval.datasets.emoji import scenes
from jaxalign.eval.datasets.emoji.sprites import read_emoji, read_sprites
from jaxalign.features import normalize
from jaxalign.inputs.json_vocabulary import JsonVocabulary
from jaxalign.models.caption_decoder import CaptionDecoder, CaptionDecoderConfig, MapperConfig
from jaxalign.weights.availability import EMBEDDED
from jaxalign.weights.captioner_files import CaptionerFacts, write_captioner
from jaxalign.weights.checkpoint import WEIGHTS

PLAIN_SHARE = 0.4  # of images, as the models are trained
SAID, KEYWORD = 0.8, 0.08  # probabilities: of each fact, and of a keyword in place of the name
CONTEXT = 24  # tokens of a caption, its end included
STOP = "<end>"
WIDTH, PREFIX = 64, 4
PACKED = 13  # tokens of a caption whose logits are computed, on average: they have eleven
Params = Any


@dataclass(frozen=True)
class Training:
    """One run. `images` are drawn and encoded before it; each step takes `batch` of them."""

    steps: int = 8000
    batch: int = 64
    images: int = 60_000
    learning_rate: float = 2e-3
    weight_decay: float = 0.05
    warmup: int = 100
    seed: int = 1
    save_every: int = 500


def names_of(split: str) -> list[str]:
    """Names and keywords of the emoji of a split."""
    emoji = [emoji for emoji in read_emoji() if emoji.split == split]
    return sorted({text for e in emoji for text in (e.name, *e.keywords)})


class Facts(NamedTuple):
    """What an image shows; no context for an emoji on white."""

    name: str
    keywords: tuple[str, ...]
    style: str
    context: scenes.Context | None


def draw_images(count: int, seed: int) -> Iterable[tuple[np.ndarray, Facts]]:
    """Images uint8 [SIDE, SIDE, 3] of the training names, each name equally often, in a style of its own."""
    by_name: dict[str, list[Any]] = {}
    for emoji, style, sprite in read_sprites("train"):
        by_name.setdefault(emoji.name, []).append((emoji, style, sprite))
    names = list(by_name)
    rng = np.random.default_rng(seed)
    for i in range(count):
        drawings = by_name[names[i % len(names)]]
        emoji, style, sprite = drawings[rng.integers(len(drawings))]
        context = None
        if rng.random() < PLAIN_SHARE:
            side = int(rng.integers(32, scenes.SIDE + 1))
            left, top = rng.integers(0, scenes.SIDE - side + 1, 2)
            image = scenes.compose_plain(sprite, side, int(left), int(top))
        else:
            context = scenes.draw_context(rng)
            image = scenes.compose_scene(sprite, context, rng)
        yield image, Facts(emoji.name, tuple(emoji.keywords), style, context)


def describe(facts: Facts, rng: np.random.Generator) -> str:
    """A caption in the words of `scenes.draw_caption` that says most of what there is."""
    said, context = rng.random(6) < SAID, facts.context
    words = [context.size] if context and said[0] else []
    words += [scenes.SPOKEN_STYLES[facts.style]] if said[1] else []
    words += [str(rng.choice(scenes.KINDS, p=scenes.KIND_WEIGHTS)), "of"]
    is_keyword = facts.keywords and rng.random() < KEYWORD
    words.append(facts.keywords[rng.integers(len(facts.keywords))] if is_keyword else facts.name)
    words += [f"at the {context.place}"] if context and said[3] else []
    if context and said[4]:
        words += ["on", context.texture] if said[5] else ["on"]
        words.append(f"{context.background} background")
    return " ".join(["an" if words[0][0] in "aeio" else "a", *words])


def embeddings_of(model: ja.DualEncoder, t: Training) -> tuple[np.ndarray, list[Facts]]:
    """Embeddings of length one, float32 [n, d], and what they are of."""
    parts, facts, images, start = [], [], [], time.perf_counter()
    for i, (image, fact) in enumerate(draw_images(t.images, t.seed), 1):
        images.append(image)
        facts.append(fact)
        if len(images) == 256 or i == t.images:
            parts.append(np.asarray(model.encode_image(np.stack(images), batch_size=256)))
            images = []
        if i % 10_000 == 0:
            print(f"{i:,} images {time.perf_counter() - start:.0f} s", flush=True)
    return np.asarray(normalize(jnp.asarray(np.concatenate(parts)))), facts


def read_embeddings(
    model: ja.DualEncoder, weights: str, t: Training, state: Path
) -> tuple[np.ndarray, list[Facts]]:
    """The same, kept in the state folder by all that they depend on."""
    key = hashlib.sha256(f"{weights} {t.images} {t.seed}".encode()).hexdigest()[:16]
    file = state / f"embeddings-{key}.npy"
    if file.exists():
        return np.load(file), [facts for _, facts in draw_images(t.images, t.seed)]
    found, facts = embeddings_of(model, t)
    np.save(file, found)
    return found, facts


def vocabulary_of(model: ja.DualEncoder, texts: Sequence[str]) -> tuple[JsonVocabulary, list[int]]:
    """The words of `texts`, single characters and what is special; and the model's id of each.

    Words are joined to a text without spaces around hyphens and apostrophes.
    """
    values = json.loads(model.require_tokenizer().vocabulary.files()["tokenizer.json"])
    whole = tokenizers.Tokenizer.from_str(json.dumps(values))
    ids = whole.get_vocab()
    said = {piece for found in whole.encode_batch(texts, add_special_tokens=False) for piece in found.tokens}
    said |= {token["content"] for token in values["added_tokens"]}
    kept = sorted((i, word) for word, i in ids.items() if word in said or len(word.removeprefix("##")) == 1)
    values["model"]["vocab"] = {word: new for new, (_, word) in enumerate(kept)}
    for token in values["added_tokens"]:
        token["id"] = values["model"]["vocab"][token["content"]]
    backend, d = tokenizers.Tokenizer.from_str(json.dumps(values)), tokenizers.decoders
    joined = d.Sequence([d.WordPiece(), d.Fuse(), d.Replace(" - ", "-"), d.Replace(" ' ", "'")])
    backend.decoder = joined  # pyright: ignore[reportAttributeAccessIssue]
    return JsonVocabulary(backend), [i for i, _ in kept]


@dataclass(frozen=True)
class Words:
    """Words of all emoji, and of what is said of scenes.

    Attributes:
      table: their vectors in the model, [V, d].
      learns: bool [V], those that get an offset of their own: what is said of a scene, and the end.
      known: ids of what takes part in the softmax: all but words that no caption has.
    """

    vocabulary: JsonVocabulary
    table: np.ndarray
    learns: np.ndarray
    known: np.ndarray

    @classmethod
    def of(cls, model: ja.DualEncoder) -> "Words":
        spoken = [*scenes.KINDS, *scenes.SPOKEN_STYLES.values(), *scenes.BACKGROUNDS, *scenes.TEXTURES]
        spoken += [*scenes.SIZES, *scenes.PLACES, "a an of at the on background"]
        names = {split: names_of(split) for split in ("train", "test")}
        vocabulary, rows = vocabulary_of(model, [*spoken, *names["train"], *names["test"]])
        table = np.asarray(model.params["txt"]["Embed_0"]["embedding"])[rows]
        learns = np.zeros(len(table), bool)
        learns[[vocabulary.id_of(STOP), *(i for ids in vocabulary.encode(spoken) for i in ids)]] = True
        said = learns.copy()
        for ids in vocabulary.encode(names["train"]):
            said[ids] = True
        is_word = np.zeros(len(table), bool)
        for word, i in vocabulary.backend.get_vocab().items():
            is_word[i] = len(word) > 1 and not word.startswith("##") and word not in vocabulary.added
        return cls(vocabulary, table, learns, np.flatnonzero(said | ~is_word))

    def tokens(self, captions: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """Ids int32 [n, CONTEXT] with the end, and how many there are."""
        ids, lengths = np.zeros((len(captions), CONTEXT), np.int32), np.zeros(len(captions), np.int32)
        for i, words in enumerate(self.vocabulary.encode(captions)):
            words = [*words, self.vocabulary.id_of(STOP)][:CONTEXT]
            ids[i, : len(words)], lengths[i] = words, len(words)
        return ids, lengths


class Batch(NamedTuple):
    """Embeddings [b, d] and captions [b, CONTEXT]; where among their b CONTEXT places the words are, which of
    `known` each is, and a weight of 0 for what fills the rest."""

    embeddings: np.ndarray
    tokens: np.ndarray
    places: np.ndarray
    goals: np.ndarray
    weights: np.ndarray


def draw_batch(words: Words, embeddings: np.ndarray, facts: list[Facts], t: Training, step: int) -> Batch:
    rng = np.random.default_rng((t.seed, step))
    rows = rng.integers(len(facts), size=t.batch)
    tokens, lengths = words.tokens([describe(facts[row], rng) for row in rows])
    places = np.flatnonzero(np.arange(CONTEXT) < lengths[:, None])[: t.batch * PACKED]
    goals = np.searchsorted(words.known, tokens.reshape(-1)[places])
    room = (0, t.batch * PACKED - len(places))
    at, goals = (np.pad(x, room).astype(np.int32) for x in (places, goals))
    return Batch(embeddings[rows], tokens, at, goals, np.pad(np.ones(len(places), np.float32), room))


def initial_params(config: CaptionDecoderConfig, words: Words, seed: int) -> Params:
    """The decoder without its word vectors, which are the model's by way of `map`, and offsets of some."""
    given = jnp.zeros((1, config.embedding)), jnp.zeros((1, 1), jnp.int32)
    params = CaptionDecoder(config).init(jax.random.key(seed), *given)["params"]
    params.pop("Embed_0")
    directions = np.linalg.svd(words.table, full_matrices=False)[2][: config.width].T
    scale = 0.05 / np.std(words.table @ directions)
    offsets = jnp.zeros((len(words.table), config.width))
    return {"decoder": params, "map": jnp.asarray(scale * directions), "own": offsets}


def with_words(params: Params, words: Words) -> Params:
    """The parameters of the decoder."""
    table = words.table @ params["map"] + words.learns[:, None] * params["own"]
    return {**params["decoder"], "Embed_0": {"embedding": table}}


def make_step(config: CaptionDecoderConfig, words: Words, optimizer: optax.GradientTransformation) -> Any:
    """The jitted training step: (params, state, batch) -> (params, state, loss)."""
    decoder, prefix = CaptionDecoder(config), config.mapper.prefix

    def features(m: CaptionDecoder, embeddings: jax.Array, tokens: jax.Array) -> jax.Array:
        x = jnp.concatenate([m.mapper(embeddings), m.words(tokens[:, :-1])], 1)
        return m.encode(x)[0][:, prefix - 1 :]

    def loss(params: Params, batch: Batch) -> jax.Array:
        whole = with_words(params, words)
        x = decoder.apply({"params": whole}, batch.embeddings, batch.tokens, method=features)
        x = jnp.asarray(x).reshape(-1, config.width)[batch.places]
        log_p = jax.nn.log_softmax(x @ whole["Embed_0"]["embedding"][words.known].T)
        said = jnp.take_along_axis(log_p, batch.goals[:, None], 1)[:, 0]
        return -(said * batch.weights).sum() / batch.weights.sum()

    @partial(jax.jit, donate_argnums=(0, 1))
    def step(params: Params, state: Any, batch: Batch) -> tuple[Params, Any, jax.Array]:
        value, gradients = jax.value_and_grad(loss)(params, batch)
        updates, state = optimizer.update(gradients, state, params)
        return optax.apply_updates(params, updates), state, value

    return step


def make_optimizer(t: Training) -> optax.GradientTransformation:
    schedule = optax.warmup_cosine_decay_schedule(0, t.learning_rate, t.warmup, t.steps)
    decays = lambda params: jax.tree.map(lambda x: x.ndim > 1, params)
    adam = optax.adamw(schedule, b2=0.98, weight_decay=t.weight_decay, mask=decays)
    return optax.chain(optax.clip_by_global_norm(1.0), adam)


def main(name: str, /, state: Path, training: Training = Training(), target: Path | None = None) -> None:
    """Train the captioner of the embedded model `name`, and write it beside the model, or to `target`."""
    t, model = training, ja.load(name)
    weights = hashlib.sha256((EMBEDDED / name / WEIGHTS).read_bytes()).hexdigest()
    state.mkdir(parents=True, exist_ok=True)
    embeddings, facts = read_embeddings(model, weights, t, state)
    words = Words.of(model)
    mapper = MapperConfig("mlp", PREFIX, WIDTH * PREFIX // 2)
    config = CaptionDecoderConfig(
        embedding=embeddings.shape[1],
        mapper=mapper,
        vocabulary=len(words.table),
        context=PREFIX + CONTEXT,
        width=WIDTH,
        depth=2,
        heads=4,
        mlp_hidden=2 * WIDTH,
    )
    optimizer, start = make_optimizer(t), time.perf_counter()
    params = initial_params(config, words, t.seed)
    carried = {"step": 0, "params": params, "optimizer": optimizer.init(params)}
    checkpoint = state / f"checkpoint-{hashlib.sha256(f'{weights} {t}'.encode()).hexdigest()[:16]}.msgpack"
    if checkpoint.exists():
        carried = flax.serialization.from_bytes(carried, checkpoint.read_bytes())
    step_fn, losses = make_step(config, words, optimizer), []
    params, opt = carried["params"], carried["optimizer"]
    for step in range(carried["step"], t.steps):
        params, opt, loss = step_fn(params, opt, draw_batch(words, embeddings, facts, t, step))
        losses.append(float(loss))
        if (step + 1) % 100 == 0:
            recent = np.mean(losses[-100:])
            print(f"step {step + 1} loss {recent:.4f} {time.perf_counter() - start:.0f} s", flush=True)
        if (step + 1) % t.save_every == 0 or step + 1 == t.steps:
            done = {"step": step + 1, "params": params, "optimizer": opt}
            partial_file = checkpoint.with_suffix(".partial")
            partial_file.write_bytes(flax.serialization.to_bytes(done))
            partial_file.replace(checkpoint)
    said = "embedded in the package; trained by tools/train_captions.py"
    folder = target or EMBEDDED / f"{name}-captioner"
    record = CaptionerFacts(name, said, model.spec.licence, name, weights, True, STOP, config)
    write_captioner(folder, record, with_words(params, words), words.vocabulary, jnp.float16)
    print(f"{folder}: {sum(p.stat().st_size for p in folder.iterdir()) / 1e6:.2f} MB")


if __name__ == "__main__":
    tyro.cli(main)
