"""The evaluators for big_vision, called as its contract says; test_big_vision_repository has the original."""

import dataclasses
import importlib.util
import json
import math
import os
import socket
import subprocess
import sys
import types
from functools import partial
from pathlib import Path

import chex
import dataset_layouts as layouts
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from big_vision_contract import TwoTowers, make_evaluators
from jax.sharding import PartitionSpec as P

import jaxalign as ja
from jaxalign.errors import JaxalignError
from jaxalign.eval.big_vision import isoclip_params, read_projectors, with_projectors
from jaxalign.eval.datasets import load_split
from jaxalign.eval.tasks.classifying import FewShotSettings
from jaxalign.eval.tasks.few_shot import Pool, few_shot

CLASSES = ("cat", "dog", "red apple")
BATCH = 5  # divides nothing, so that every last batch is padded


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Three classes, eight training images and five test images of each, and one test image of none."""
    folder = tmp_path_factory.mktemp("photos")
    for seed in range(39):
        split, which = ("train", seed) if seed < 24 else ("test", seed - 24)
        layouts.write_image(folder / split / CLASSES[which % 3] / f"{which}.png", seed)
    layouts.write_image(folder / "test" / "loose.png", 99)
    return f"folder:{folder}"


def settings(photos, model, **more):
    names = {"class_names": ["cat", "dog", "apple", "red", "blue"], "tokenizer": model.tokenizer}
    common = {"dataset": photos, "image_size": 24, "band": (1, 2), "rank": 3, "log_steps": 10}
    return common | names | more


def run_all(evals, model, params=None, devices=None, predict_fn=None):
    """Everything that is logged, as a trainer does it: implicit transfers forbidden."""
    devices = np.asarray(jax.devices()[:1] if devices is None else devices)
    everywhere = jax.sharding.NamedSharding(jax.sharding.Mesh(devices, ("data",)), P())
    train_state = {"params": jax.device_put(model.params if params is None else params, everywhere)}
    found = make_evaluators(evals, predict_fn or TwoTowers(model), devices, BATCH * len(devices))
    with jax.transfer_guard("disallow"):
        return {f"{name}/{k}": v for name, e in found.items() for k, v in e.run(train_state)}


def features(model, photos, split):
    """Labels, embeddings and pre-projection features by the library, with big_vision's resize."""
    examples = load_split(photos, split)
    rows = np.flatnonzero(examples.labels["label"] >= 0)
    processor = ja.ImageProcessor(24, "squash", "bilinear", pipeline="big_vision")
    pixels = processor(examples.images[rows])
    both = (model.encode_image(pixels, projected=projected) for projected in (True, False))
    return examples.labels["label"][rows], *both


def methods(model, embeddings, pre):
    texts = model.encode_text([f"a photo of {name}" for name in ("cat", "dog", "apple", "red", "blue")])
    return {
        "image-image": embeddings,
        "pre": pre,
        "isoclip": ja.isoclip(model.projectors, 1, 2).image(pre),
        "pca": ja.principal_subspace(texts, 3).project(embeddings),
    }


@pytest.mark.long
def test_retrieval_logs_what_the_library_computes(model, photos):
    evals = {
        "pets": settings(
            photos, model, type="intra_modal_retrieval", split="test", metrics=["mAP", "recall_at_1"]
        )
    }
    found = run_all(evals, model)
    labels, embeddings, pre = features(model, photos, "test")
    expected = {}
    for name, x in methods(model, embeddings, pre).items():
        metrics = ja.retrieval_metrics(x, x, labels, labels, exclude_self=True)
        expected |= {f"pets/{name}/{k}": metrics[k] for k in ("mAP", "recall_at_1")}
    expected |= {"pets/isoclip/k_top": 1, "pets/isoclip/k_bottom": 2}
    assert found == pytest.approx(expected, abs=1e-3)  # percent; the embeddings are rounded differently
    assert list(found) == list(expected)


@pytest.mark.long
def test_a_gallery_of_its_own(clip, photos):
    """The protocol of a folder with both splits: `test` finds `train`."""
    found = run_all({"x": settings(photos, clip, type="intra_modal_retrieval")}, clip)
    query, gallery = features(clip, photos, "test"), features(clip, photos, "train")
    expected = ja.retrieval_metrics(query[1], gallery[1], query[0], gallery[0])["mAP"]
    assert found["x/image-image/mAP"] == pytest.approx(expected, abs=1e-3)  # percent, as above


@pytest.mark.long
def test_few_shot_and_nearest_class_mean(model, photos):
    evals = {"intra_modal_fewshot": settings(photos, model, shots=(1, 4), seeds=(1, 2))}
    found = run_all(evals, model)
    train, test = features(model, photos, "train"), features(model, photos, "test")
    both = methods(model, *train[1:]), methods(model, *test[1:])
    for name in ("image-image", "pre", "isoclip", "pca"):
        x, y = both[0][name], both[1][name]
        shots = few_shot(Pool(train[0], x), y, test[0], 3, FewShotSettings(shots=(1, 4), seeds=(1, 2)))
        ncm = ja.ncm_classifier(x, train[0])
        expected = dict(shots.metrics["accuracy"]) | {"ncm": 100 * float((ncm.predict(y) == test[0]).mean())}
        got = {k: found[f"intra_modal_fewshot/{name}/{k}"] for k in ("1shot", "4shot", "ncm")}
        assert got == pytest.approx({"1shot": expected["1"], "4shot": expected["4"], "ncm": expected["ncm"]})


@pytest.mark.long
def test_only_the_drawn_images_are_computed_without_ncm(clip, photos):
    whole = settings(photos, clip, type="intra_modal_fewshot", shots=(2,), seeds=(1,))
    found = run_all({"a": whole, "b": whole | {"ncm": False}}, clip)
    assert found["a/pre/2shot"] == found["b/pre/2shot"]
    assert "b/pre/ncm" not in found


@pytest.mark.long
def test_evaluators_share_what_is_compiled_and_follow_the_parameters(siglip, photos):
    predict_fn = TwoTowers(siglip)
    evals = {
        "retrieval": settings(photos, siglip, type="intra_modal_retrieval"),
        "fewshot": settings(photos, siglip, type="intra_modal_fewshot", shots=(1,)),
    }
    evaluators = make_evaluators(evals, predict_fn, np.asarray(jax.devices()[:1]), BATCH)
    assert predict_fn.traces == {"image": 0, "labels": 0}  # nothing before the first run
    logged = []
    for scale in (1.0, 1.5):
        params = jax.tree.map(lambda x, s=scale: x * s, siglip.params)
        logged.append([dict(e.run({"params": params})) for e in evaluators.values()])
    assert predict_fn.traces == {"image": 1, "labels": 1}
    assert logged[0][0]["image-image/mAP"] != logged[1][0]["image-image/mAP"]


def test_a_band_from_the_spectrum_and_no_tokenizer(clip, photos):
    plain = settings(photos, clip, type="intra_modal_retrieval", band="auto", tokenizer=None)
    found = run_all({"x": plain}, clip)
    band = ja.select_band(ja.decompose(clip.projectors))
    assert (found["x/isoclip/k_top"], found["x/isoclip/k_bottom"]) == band
    assert not any("pca" in name for name in found)


def broken(model, how):
    params = {**model.params, "img": dict(model.params["img"]), "txt": dict(model.params["txt"])}
    if how == "diverged":
        return jax.tree.map(lambda x: jnp.full_like(x, jnp.nan), params)
    params["img"]["head"] = jax.tree.map(jnp.zeros_like, params["img"]["head"])  # big_vision's head_zeroinit
    return params


@pytest.mark.parametrize("how", ["diverged", "zero head"])
@pytest.mark.long
def test_parameters_that_allow_no_method_log_nan_and_do_not_end_the_run(clip, photos, how):
    evals = {
        "r": settings(photos, clip, type="intra_modal_retrieval"),
        "f": settings(photos, clip, type="intra_modal_fewshot", shots=(1,)),
    }
    found = run_all(evals, clip, broken(clip, how))
    usable = {name for name, value in found.items() if not math.isnan(value)}
    pre = {"r/pre/mAP", "f/pre/1shot", "f/pre/ncm"}
    assert usable == (set() if how == "diverged" else pre)
    assert {"r/isoclip/mAP", "r/pca/mAP", "f/isoclip/ncm"} <= set(found)


def unit(x):
    return x / jnp.linalg.norm(x, axis=-1, keepdims=True)


@pytest.mark.parametrize("jit", [False, True])
@pytest.mark.long
def test_rewritten_parameters_give_isoclip_embeddings(model, jit):
    rng = np.random.default_rng(0)
    batch = {"image": jnp.asarray(rng.normal(size=(4, 24, 24, 3)), jnp.float32)}
    batch["labels"] = jnp.asarray(rng.integers(4, 14, (4, 10)), jnp.int32).at[:, -1].set(3)
    rewrite = jax.jit(isoclip_params) if jit else isoclip_params
    params = rewrite(model.params, 2, 3)
    chex.assert_trees_all_equal_shapes_and_dtypes(params, dict(model.params))
    zimg, ztxt, _ = jax.jit(TwoTowers(model).__call__)({"params": params}, batch)
    expected = ja.isoclip(model.projectors, 2, 3)
    pre = jax.jit(partial(model.apply_image, projected=False))(model.params, batch["image"])
    np.testing.assert_allclose(zimg, unit(expected.image(pre)), atol=1e-5)
    pre = jax.jit(partial(model.apply_text, projected=False))(model.params, batch["labels"])
    np.testing.assert_allclose(ztxt, unit(expected.text(pre)), atol=1e-5)
    only_text = isoclip_params(model.params, 2, 3, modalities=("text",))
    jax.tree.map(np.testing.assert_array_equal, only_text["img"], model.params["img"])


def test_projectors_are_those_of_the_converted_model(model):
    jax.tree.map(np.testing.assert_array_equal, read_projectors(model.params), model.projectors)


def test_rewritten_parameters_go_out_as_npz(siglip, tmp_path):
    params = isoclip_params(siglip.params, 2, 3)
    ja.save(dataclasses.replace(siglip, params=params), tmp_path / "isoclip.npz")
    back = ja.load(tmp_path / "isoclip.npz")
    jax.tree.map(np.testing.assert_array_equal, dict(back.params), params)


@pytest.fixture
def spectator(monkeypatch):
    """An evaluator of somebody else that logs the first image embedding."""
    module = types.ModuleType("spectator")

    class Evaluator:
        def __init__(self, predict_fn, *, batch_size, devices, pixels):
            self._predict, self._pixels = jax.jit(predict_fn), pixels

        def run(self, train_state):
            zimg, *_ = self._predict(train_state, {"image": jax.device_put(self._pixels)})
            yield "z", jax.device_get(zimg)

    module.API, module.Evaluator = "jit", Evaluator
    monkeypatch.setitem(sys.modules, "big_vision.evaluators.spectator", module)
    return module


@pytest.mark.long
def test_any_evaluator_with_isoclip(model, spectator):
    pixels = np.random.default_rng(0).normal(size=(2, 24, 24, 3)).astype(np.float32)
    common = {"pixels": pixels}
    evals = {
        "spectator": common,
        "x": {"type": "with_isoclip", "evaluator": "spectator", "band": (2, 3)} | common,
    }
    found = run_all(evals, model)
    pre = model.encode_image(pixels, projected=False)
    np.testing.assert_allclose(found["x/z"], unit(ja.isoclip(model.projectors, 2, 3).image(pre)), atol=1e-5)
    np.testing.assert_allclose(found["spectator/z"], unit(model.encode_image(pixels)), atol=1e-5)
    spectator.API = "pmap"
    with pytest.raises(JaxalignError, match="pmap-based trainers; expected one for jit"):
        run_all({"x": evals["x"]}, model)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"dataset": "emoij"}, "emoij.*did you mean|known"),
        ({"label": "breed"}, "label of folder:.* 'breed'"),
        ({"metrics": ["map"]}, "retrieval metric of .*'map'"),
        ({"split": "validation"}, "split of .* 'validation'"),
        ({"band": (3,)}, r"band is \(3,\); expected 'auto' or \(k_top, k_bottom\)"),
        ({"template": "a photo"}, "template is 'a photo'; expected one with {}"),
        ({"preprocess": {"sizes": 3}}, "option of preprocess 'sizes'"),
        ({"tokenizer": {"context": 3}}, "the tokenizer has no file"),
        ({"tokenizer": {"file": "x.model", "contxt": 3}}, "setting of the tokenizer 'contxt'"),
        ({"batch_size": None}, "batch_size is None; expected a multiple of the 1 devices"),
    ],
)
def test_wrong_settings_are_named_before_the_run(clip, photos, wrong, message):
    evals = {"x": settings(photos, clip, type="intra_modal_retrieval") | wrong}
    with pytest.raises(JaxalignError, match=message):
        make_evaluators(evals, TwoTowers(clip), np.asarray(jax.devices()[:1]), BATCH)


def test_an_image_tower_without_a_place_for_a_projector(clip):
    params = {**clip.params, "img": {k: v for k, v in clip.params["img"].items() if k != "head"}}
    with pytest.raises(JaxalignError, match="neither a linear head nor an attention pool"):
        with_projectors(params, read_projectors(clip.params))
    with pytest.raises(JaxalignError, match="no txt; expected those of big_vision's"):
        read_projectors({"img": {}})


@pytest.mark.long
def test_the_example_config(siglip, emoji_data_dir):
    pytest.importorskip("ml_collections", reason="ml_collections, which big_vision's configs are made of")
    path = Path(__file__).parents[1] / "examples" / "big_vision_siglip.py"
    spec = importlib.util.spec_from_file_location("big_vision_siglip", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    tokenizer = Path(ja.__file__).parent / "embedded" / "emoji-siglip" / "tokenizer.json"
    config = module.get_config(f"batch_size=16,image_size=24,vocabulary={tokenizer}")
    assert config.input.batch_size == 16
    evals = {name: of.to_dict() for name, of in config.evals.items()}
    assert evals.pop("few_shot_isoclip")["evaluator"] == "fewshot_lsr"  # needs big_vision
    for of in evals.values():
        of["data_dir"] = str(emoji_data_dir)
    made = make_evaluators(evals, TwoTowers(siglip), np.asarray(jax.devices()[:1]), 16)
    assert list(made) == ["scenes", "styles"]


PROCESS = """
import json, sys
import jax
photos, address, process = sys.argv[1:]
jax.distributed.initialize(address, num_processes=2, process_id=int(process))
import jaxalign.eval.big_vision
assert not {"tensorflow", "big_vision", "torch"} & set(sys.modules)
from conftest import tiny_model
from test_big_vision_evaluators import everywhere, run_all
assert (len(jax.local_devices()), len(jax.devices())) == (4, 8)
model = tiny_model("emoji-siglip")
print(json.dumps(run_all(everywhere(photos, model), model, devices=jax.devices())))
"""


def everywhere(photos, model):
    filtered = {"evaluator": "intra_modal_retrieval", "modalities": ("image",)}
    return {
        "x": settings(photos, model, type="with_isoclip", **filtered),
        "f": settings(photos, model, type="intra_modal_fewshot", shots=(2,), seeds=(1,)),
    }


def start(*arguments):
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=4", "JAX_PLATFORMS": "cpu"}
    env = os.environ | flags | {"PYTHONPATH": str(Path(__file__).parent)}
    command = [sys.executable, "-c", PROCESS, *arguments]
    return subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def read(process):
    out, errors = process.communicate(timeout=540)
    assert process.returncode == 0, errors[-2000:]
    return json.loads(out.splitlines()[-1])


@pytest.mark.long
def test_two_processes_of_four_devices_log_what_one_device_does(siglip, photos):
    """And neither TensorFlow nor big_vision is imported."""
    one = run_all(everywhere(photos, siglip), siglip)
    with socket.socket() as free:
        free.bind(("localhost", 0))
        address = f"localhost:{free.getsockname()[1]}"
    processes = [start(photos, address, str(i)) for i in range(2)]
    try:
        first, second = (read(process) for process in processes)
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    assert first == second
    assert len(one) == 16
    assert first == pytest.approx(one, abs=1e-3)  # percent; batches of another size round differently
