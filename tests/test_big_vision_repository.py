"""The same against big_vision itself: its `from_config`, its two-tower and its own evaluators.

    pip install 'jaxalign[big-vision]'
    BIG_VISION=/path/to/a/checkout pytest tests/test_big_vision_repository.py

Skipped where there is no checkout, or where what it needs (the extra `big-vision`) is not installed.
"""

import importlib
import importlib.util
import json
import os
import sys
import types
from pathlib import Path

import dataset_layouts as layouts
import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

import jaxalign as ja
from jaxalign.eval.big_vision import isoclip_params
from jaxalign.eval.datasets import load_split

pytestmark = [
    pytest.mark.reference,
    # of tensorflow and of the checkout's own code
    pytest.mark.filterwarnings("ignore"),
]
CLASSES = ("cat", "dog", "apple")


@pytest.fixture(scope="module")
def common():
    """`big_vision.evaluators.common`."""
    if checkout := os.environ.get("BIG_VISION"):
        sys.path.append(checkout)
    for needed in ("tensorflow", "ml_collections", "overrides", "big_vision"):
        pytest.importorskip(needed, reason=f"{needed} is not there; see the top of this file")
    import big_vision.evaluators.common as common

    return common


@pytest.fixture(scope="module")
def two_towers(common, siglip):
    """big_vision's own model in the shape of the tiny SigLIP, and the trainer's `predict_fn` of it."""
    import big_vision.models.proj.image_text.two_towers as two_towers

    image, text = siglip.config.image, siglip.config.text
    shape = {"depth": 2, "pool_type": "map", "patch_size": (image.patch_size, image.patch_size)}
    model = two_towers.Model(
        image=shape | {"width": image.width, "num_heads": image.heads, "mlp_dim": image.mlp_hidden},
        text={
            "width": text.width,
            "depth": text.depth,
            "num_heads": text.heads,
            "mlp_dim": text.mlp_hidden,
            "vocab_size": text.vocabulary,
        },
        out_dim=(None, text.projection),
        bias_init=-10.0,
    )

    def predict_fn(train_state, batch):
        return model.apply(
            {"params": train_state["params"]}, image=batch.get("image"), text=batch.get("labels")
        )

    return model, predict_fn


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for seed in range(27):
        split, which = ("train", seed) if seed < 15 else ("test", seed - 15)
        layouts.write_image(folder / split / CLASSES[which % 3] / f"{which}.png", seed)
    return f"folder:{folder}"


def run_all(common, evals, predict_fn, params):
    """What the siglip trainer does with `config.evals`."""
    import flax.linen as nn
    from ml_collections import ConfigDict

    devices = np.asarray(jax.devices())
    mesh = jax.sharding.Mesh(devices, ("data",))
    train_state = {"params": jax.device_put(params, jax.sharding.NamedSharding(mesh, P()))}
    config = ConfigDict({"batch_size": 8 * len(devices), "evals": evals})
    made = common.from_config(config, {"predict": predict_fn}, devices=devices)
    found = {}
    for _, evaluator, log_steps, prefix in made:
        assert log_steps == 10
        with jax.transfer_guard("disallow"), mesh, nn.logical_axis_rules([("act_batch", "data")]):
            found |= {f"{prefix}{name}": value for name, value in evaluator.run(train_state)}
    return found


def settings(photos, model):
    return {
        "dataset": photos,
        "image_size": 24,
        "band": (1, 2),
        "rank": 3,
        "class_names": ("cat", "dog", "apple", "red", "blue"),
        "tokenizer": model.tokenizer,
        "log_steps": 10,
    }


def test_two_towers_and_ours_are_one_model(siglip, two_towers):
    """And IsoCLIP's projectors, written into the parameters, are what its embeddings follow."""
    _, predict_fn = two_towers
    rng = np.random.default_rng(0)
    pixels = jnp.asarray(rng.normal(size=(4, 24, 24, 3)), jnp.float32)
    tokens = jnp.asarray(rng.integers(4, 14, (4, 10)), jnp.int32)
    heads = ja.isoclip(siglip.projectors, 2, 3)
    pre = siglip.apply_image(siglip.params, pixels, projected=False)
    pre_text = siglip.apply_text(siglip.params, tokens, projected=False)
    for params, image, text in (
        (siglip.params, siglip.apply_image(siglip.params, pixels), siglip.projectors.text(pre_text)),
        (isoclip_params(siglip.params, 2, 3), heads.image(pre), heads.text(pre_text)),
    ):
        zimg, ztxt, _ = predict_fn({"params": params}, {"image": pixels, "labels": tokens})
        for z, expected in ((zimg, image), (ztxt, text)):
            unit = expected / jnp.linalg.norm(expected, axis=-1, keepdims=True)
            np.testing.assert_allclose(z, unit, atol=1e-5)


def test_npz_goes_in_and_out(siglip, two_towers, tmp_path):
    """`two_towers.load` reads what we write; what it saves is read by `ja.load`."""
    import big_vision.models.proj.image_text.two_towers as module
    import big_vision.utils as u
    from ml_collections import ConfigDict

    path = tmp_path / "siglip.npz"
    ja.save(siglip, path)
    cfg = ConfigDict({"image": {}, "text": {}, "bias_init": -10.0})
    loaded = module.load(jax.tree.map(np.asarray, dict(siglip.params)), str(path), cfg)
    jax.tree.map(np.testing.assert_array_equal, dict(loaded), dict(siglip.params))
    names, _ = u.tree_flatten_with_names(loaded)
    np.savez(tmp_path / "back.npz", **{name: np.asarray(x) for name, x in names})
    back = ja.load(tmp_path / "back.npz")
    jax.tree.map(np.testing.assert_array_equal, dict(back.params), dict(siglip.params))


def test_a_stacked_npz_goes_in_and_out(common, tmp_path):
    """What we write of a `scan=True` model is what `two_towers.load` reads into one; its text tower reads
    nothing else there."""
    import big_vision.models.proj.image_text.two_towers as module
    from ml_collections import ConfigDict

    golden = np.load(Path(__file__).parent / "goldens" / "big_vision.npz", allow_pickle=False)
    names = {k: k.removeprefix("scan/params/") for k in golden.files if k.startswith("scan/params/")}
    params = flax.traverse_util.unflatten_dict({v: golden[k] for k, v in names.items()}, sep="/")
    np.savez(tmp_path / "theirs.npz", **{f"params/{v}": golden[k] for k, v in names.items()})
    ja.save(ja.load(tmp_path / "theirs.npz"), tmp_path / "ours.npz")
    cfg = ConfigDict({"image": {"scan": True}, "text": {"scan": True}, "bias_init": -10.0})
    loaded = module.load(params, str(tmp_path / "ours.npz"), cfg)
    jax.tree.map(np.testing.assert_array_equal, dict(loaded), params)


def test_our_evaluators_from_a_config(common, siglip, two_towers, photos):
    evals = {
        "pets": settings(photos, siglip) | {"type": "intra_modal_retrieval", "split": "test"},
        "intra_modal_fewshot": settings(photos, siglip) | {"shots": (1, 2), "prefix": "few/"},
    }
    found = run_all(common, evals, two_towers[1], siglip.params)
    examples = load_split(photos, "test")
    pixels = ja.ImageProcessor(24, "squash", "bilinear", pipeline="big_vision")(examples.images)
    x, labels = siglip.encode_image(pixels), examples.labels["label"]
    pre = siglip.encode_image(pixels, projected=False)
    texts = siglip.encode_text([f"a photo of {name}" for name in settings(photos, siglip)["class_names"]])
    embeddings = {
        "image-image": x,
        "pre": pre,
        "isoclip": ja.isoclip(siglip.projectors, 1, 2).image(pre),
        "pca": ja.principal_subspace(texts, 3).project(x),
    }
    for name, z in embeddings.items():
        expected = ja.retrieval_metrics(z, z, labels, labels, exclude_self=True)["mAP"]
        assert found[f"pets/{name}/mAP"] == pytest.approx(expected, abs=1e-3)  # percent
        assert {f"few/{name}/{k}" for k in ("1shot", "2shot", "ncm")} <= set(found)
    print("\n".join(f"{name} {value:.2f}" for name, value in found.items()))


def test_its_own_evaluator_sees_isoclip(common, siglip, two_towers, photos, monkeypatch):
    """fewshot_lsr on the rewritten parameters is fewshot_lsr with_isoclip, and not that of the model."""
    provide_images(monkeypatch, photos)
    lsr = {
        "datasets": {"pets": ("bv:jaxalign_images", "train", "test")},
        "shots": (2, 4),
        "l2_reg": 2.0**10,
        "pp_train": 'keep("image", "label")',
        "pp_eval": 'keep("image", "label")',
        "display_first": [("pets", 4)],
        "log_steps": 10,
    }
    wrapped = lsr | {"type": "with_isoclip", "evaluator": "fewshot_lsr", "band": (2, 10)}
    both = run_all(common, {"fewshot_lsr": lsr, "x": wrapped}, two_towers[1], siglip.params)
    rewritten = isoclip_params(siglip.params, 2, 10)
    alone = run_all(common, {"fewshot_lsr": lsr}, two_towers[1], rewritten)
    plain = {k.partition("/")[2]: float(v) for k, v in both.items() if k.startswith("fewshot_lsr/")}
    seen = {k.partition("/")[2]: float(v) for k, v in both.items() if k.startswith("x/")}
    assert seen == {k.partition("/")[2]: float(v) for k, v in alone.items()}
    assert len(seen) == 6
    assert seen != plain
    print("plain", plain, "isoclip", seen)


def provide_images(monkeypatch, photos):
    """A data source of big_vision's kind, `bv:jaxalign_images`, that gives the folder's images."""
    import big_vision.datasets.core as core
    import tensorflow as tf

    importlib.import_module("big_vision.pp.ops_general")  # what configs name in `pp_modules`

    processor = ja.ImageProcessor(24, "squash", "bilinear", pipeline="big_vision")

    class DataSource(core.DataSource):
        def __init__(self, split, data_dir=None):
            examples = load_split(photos, split)
            self._tensors = {"image": processor(examples.images), "label": examples.labels["label"]}
            label = types.SimpleNamespace(num_classes=len(CLASSES))
            self.builder = types.SimpleNamespace(info=types.SimpleNamespace(features={"label": label}))

        def get_tfdata(self, ordered=False, *, process_split=True, allow_cache=True):
            return tf.data.Dataset.from_tensor_slices(self._tensors)

        @property
        def total_examples(self):
            return len(self._tensors["label"])

        def num_examples_per_process(self):
            return [self.total_examples]

    module = types.ModuleType("big_vision.datasets.jaxalign_images")
    module.DataSource = DataSource
    monkeypatch.setitem(sys.modules, module.__name__, module)


# The example config, with towers and data that are quickly done.


@pytest.fixture(scope="module")
def example(common, tmp_path_factory, emoji_data_dir):
    """`examples/big_vision_siglip.py`'s config for towers of one block, 32 wide, and images of 32 x 32;
    copies of Pets and of COCO's captions, which TFDS writes with images of noise, are where it looks for
    them."""
    pytest.importorskip("tensorflow_text", reason="tensorflow_text, which big_vision's tokenizer needs")
    folder = tmp_path_factory.mktemp("example")
    path = Path(__file__).parents[1] / "examples" / "big_vision_siglip.py"
    spec = importlib.util.spec_from_file_location("big_vision_siglip", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = module.get_config(f"batch_size=8,image_size=32,vocabulary={write_vocabulary(folder)}")
    config.model.image.variant, config.model.text.variant = "mu/16", "mu"
    config.model.out_dim, config.model_init = (None, 32), None
    for name, evaluator in config.evals.items():
        evaluator.band = (2, 3)  # of 32 directions
        if name != "few_shot_isoclip":
            evaluator.data_dir = str(emoji_data_dir)
    with pytest.MonkeyPatch.context() as patch:
        write_noise(patch, folder / "tfds")
        patch.setattr("tensorflow_datasets.core.constants.DATA_DIR", str(folder / "tfds"))
        patch.setattr("tensorflow_datasets.core.utils.gcs_utils._is_gcs_disabled", True)
        yield config


def write_vocabulary(folder):
    import sentencepiece

    words = ("cat", "dog", "apple", "red", "blue", "tench", "goldfish", "house", "tree", "bird", "street")
    (folder / "texts.txt").write_text("\n".join(f"a photo of a {word}" for word in words))
    sentencepiece.SentencePieceTrainer.train(
        input=str(folder / "texts.txt"),
        model_prefix=str(folder / "vocabulary"),
        vocab_size=60,
        hard_vocab_limit=False,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        minloglevel=2,
    )
    return folder / "vocabulary.model"


def write_noise(patch, folder):
    import tensorflow_datasets as tfds

    rng = np.random.default_rng(0)
    image = lambda: rng.integers(0, 256, (20, 26, 3), np.uint8)
    box, mask = tfds.features.BBox(0.0, 0.0, 1.0, 1.0), np.zeros((20, 26, 1), np.uint8)
    pet = {"species": 0, "segmentation_mask": mask, "head_bbox": box}
    thing = {"area": 1, "bbox": box, "id": 1, "is_crowd": False, "label": 0}

    def pets(self, manager):
        rows = lambda split, count: (
            (i, {"image": image(), "label": i % 37, "file_name": f"{split}{i}.jpg", **pet})
            for i in range(count)
        )
        return {"train": rows("train", 10 * 37), "test": rows("test", 37)}

    def captions(self, manager):
        said = [{"id": j, "text": text} for j, text in enumerate(("a photo of a cat", "a red apple"))]
        names = lambda i: {"image/filename": f"{i}.jpg", "image/id": i}
        rows = ((i, {"image": image(), "objects": [thing], "captions": said, **names(i)}) for i in range(32))
        return {"train": rows}

    for name, config, generate in (("oxford_iiit_pet", None, pets), ("coco_captions", "2014", captions)):
        builder = tfds.builder_cls(name)
        patch.setattr(builder, "_split_generators", generate)
        builder(data_dir=folder, **({"config": config} if config else {})).download_and_prepare()


LOGGED = {
    "few_shot_isoclip": {"z/pets_5shot-seed-0", "a/pets_10shot-seed-2"},
    "scenes": {f"{name}/mAP" for name in ("image-image", "pre", "isoclip", "pca")},
    "styles": {f"{name}/{k}" for name in ("image-image", "pca") for k in ("1shot", "16shot", "ncm")},
}


def test_the_example_config_runs(common, example):
    """Its input pipeline gives a batch's images and tokens; its evaluators run on its model."""
    import flax.linen as nn
    from ml_collections import ConfigDict

    for name in example.pp_modules:
        importlib.import_module(f"big_vision.pp.{name}")
    import big_vision.input_pipeline as input_pipeline

    dataset, _ = input_pipeline.training(example.input)
    batch = next(iter(dataset.as_numpy_iterator()))
    assert (batch["image"].shape, batch["labels"].shape) == ((8, 32, 32, 3), (8, 64))
    model = importlib.import_module(f"big_vision.models.{example.model_name}").Model(**example.model)
    shapes = [
        jnp.zeros(shape, dtype) for shape, dtype in zip(example.init_shapes, example.init_types, strict=True)
    ]
    params = model.init(jax.random.key(0), *shapes)["params"]

    def predict_fn(train_state, batch):
        return model.apply(
            {"params": train_state["params"]}, image=batch.get("image"), text=batch.get("labels")
        )

    devices = np.asarray(jax.devices())
    mesh = jax.sharding.Mesh(devices, ("data",))
    train_state = {"params": jax.device_put(params, jax.sharding.NamedSharding(mesh, P()))}
    settings = ConfigDict({"batch_size": 8 * len(devices), "evals": example.evals})
    found = {}
    for name, evaluator, log_steps, _ in common.from_config(
        settings, {"predict": predict_fn}, devices=devices
    ):
        assert log_steps == 500
        with jax.transfer_guard("disallow"), mesh, nn.logical_axis_rules([("act_batch", "data")]):
            found[name] = dict(evaluator.run(train_state))
    assert found.keys() == LOGGED.keys()
    for name, keys in LOGGED.items():
        assert keys <= found[name].keys()
        assert np.isfinite([float(value) for value in found[name].values()]).all()


@pytest.mark.slow
def test_its_trainer_trains_with_the_example_config(example, tmp_path, monkeypatch):
    """With what JAX has removed put back: the aliases of `jax.tree`, and its `sync`, which is by
    `PositionalSharding`, left out."""
    pytest.importorskip("clu", reason="clu, which the trainer needs")
    for name in ("map", "leaves", "structure", "flatten", "unflatten"):
        monkeypatch.setattr(jax, f"tree_{name}", getattr(jax.tree, name), raising=False)
    monkeypatch.setattr(jax.distributed, "initialize", lambda: None)
    import big_vision.trainers.proj.image_text.siglip as trainer

    config = example.copy_and_resolve_references()
    config.total_steps, config.log_training_steps, config.ckpt_steps = 4, 1, 100
    config.schedule.warmup_steps = 1
    for evaluator in config.evals.values():
        evaluator.log_steps = 2
    flags = types.SimpleNamespace(config=config, workdir=str(tmp_path), cleanup=False)
    monkeypatch.setattr(trainer, "flags", types.SimpleNamespace(FLAGS=flags))
    monkeypatch.setattr(trainer.u, "sync", lambda: None)
    trainer.main([])
    logged = [json.loads(line) for line in (tmp_path / "big_vision_metrics.txt").read_text().splitlines()]
    evaluated = [row for row in logged if "scenes/image-image/mAP" in row]
    steps = [row["step"] for row in evaluated]  # while it trains, and at its end
    assert (min(steps) < 4, steps[-1]) == (True, 4)
    for name, keys in LOGGED.items():
        assert {f"{name}/{key}" for key in keys} <= evaluated[-1].keys()
    assert np.isfinite(evaluated[-1]["training_loss"])
