"""The engine and every rule table, on made-up tensors."""

import re
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
from oracles_conversion import random_parameters, source_tensors, tiny, write_torch_zip
from safetensors.numpy import save_file

import jaxalign as ja
from jaxalign.conversion import engine
from jaxalign.conversion.engine import Format, Rule, convert, plan
from jaxalign.conversion.facts import Facts
from jaxalign.conversion.formats import FORMATS, find_format
from jaxalign.conversion.formats.timm_trunks import PE_TIMM
from jaxalign.conversion.reading import read
from jaxalign.conversion.spec_choice import choose_spec
from jaxalign.conversion.transforms import linear, must_be_zero, value, zeros
from jaxalign.errors import JaxalignError
from jaxalign.specs import MODELS, find_spec
from jaxalign.weights import stored as stored_tensors
from jaxalign.weights.identity import claimed
from jaxalign.weights.stored import StoredTensor, array_parts
from jaxalign.weights.tensors import expected_shapes, flatten

CASES = [(table, spec.name) for table in FORMATS for spec in table.models]
# The first model of each table is always tried, the others are when there is time.
FIRST = {id(table): name for table, name in reversed(CASES)}
EVERY = pytest.mark.parametrize(
    ("table", "name"),
    [
        pytest.param(
            table, name, marks=() if FIRST[id(table)] == name else pytest.mark.long, id=f"{table.name}-{name}"
        )
        for table, name in CASES
    ],
)


def stored(tensors: dict[str, np.ndarray]) -> dict[str, StoredTensor]:
    return {
        k: StoredTensor(x.shape, x.dtype.name, lambda n, x=x: array_parts(x, n)) for k, x in tensors.items()
    }


def save(tensors: dict[str, np.ndarray], path) -> None:
    save_file({k: np.ascontiguousarray(x) for k, x in tensors.items()}, path)


@EVERY
def test_every_table_and_model(table, name, tmp_path, monkeypatch):
    """A file of the format gives back the very parameters it was made of, and is recognised."""
    monkeypatch.setattr(stored_tensors, "PART", 700)  # parts that end within a layer, an axis and a target
    spec = tiny(name)
    params = random_parameters(spec.towers)
    tensors = source_tensors(table, params)
    tensors |= {name: np.zeros(1, np.float32) for name in table.telling if name not in tensors}
    assert find_format(tensors, "it") is table
    save(tensors, tmp_path / "weights.safetensors")
    model = read(tmp_path / "weights.safetensors", spec)
    found = flatten(model.params)
    assert found.keys() == params.keys()
    for path, x in params.items():
        np.testing.assert_array_equal(found[path], x, err_msg=path)
    assert {x.dtype for x in found.values()} == {jnp.dtype("float32")}


def full_size(table, name) -> dict[str, StoredTensor]:
    """Names and shapes of a known model's file, without numbers."""
    spec = find_spec(name)
    wanted = expected_shapes(spec.towers)
    if spec.position_resampling:  # the files hold positions for 518 pixels
        wanted["img/pos_embedding"] = (1, 1 + 37 * 37, wanted["img/pos_embedding"][2])
    found = {}
    for rule in table.rules:
        for numbers in engine.matches(rule.targets[0], wanted) if rule.targets and rule.source else ():
            shapes = [wanted[target.format(**numbers)] for target in rule.targets]
            source = rule.source.split("|")[0].format(**numbers)
            found[source] = StoredTensor(rule.transform.source_shape(shapes), "float32", lambda n: iter(()))
    return found


# of these formats there are known models that compute differently with tensors alike
AMBIGUOUS = ("transformers CLIPModel", "open_clip SigLIP (timm)", "OpenAI / open_clip CLIP")


@EVERY
@pytest.mark.long
def test_known_models_are_recognised_by_their_shapes(table, name):
    """In what they compute, where the format has one way to; never as who they are."""
    spec = find_spec(name)
    found = full_size(table, name)
    # 27 patches of 14 pixels fit both: of all sizes this one is in no shape
    facts = Facts(image={"image_size": 384} if "384" in name else {})
    if table.name.startswith(AMBIGUOUS):
        with pytest.raises(JaxalignError, match=rf"may be .*{name}.* differ in what .*activation .*gelu or "):
            choose_spec(table, found, facts, "file")
        image, text = spec.towers.image, spec.towers.text
        said = {} if name == "clip-rn50" else {"activation": image.activation}
        facts = Facts(image=said, text={"activation": text.activation})
    chosen = choose_spec(table, found, facts, "file")
    assert (chosen.towers, chosen.position_resampling) == (spec.towers, spec.position_resampling)
    for ours in (chosen, choose_spec(table, found, Facts(), "file", stated=spec)):
        assert (ours.name, ours.source, ours.licence, ours.paper) == ("file", "file", "unknown", "unknown")
        assert (ours.revision, ours.band, ours.text_band, ours.hub_ids, ours.aliases) == (
            None,
            None,
            None,
            (),
            (),
        )
    assert claimed(choose_spec(table, found, Facts(), "file", stated=spec), spec) == spec
    if spec.position_resampling is None:
        steps = plan(table, found, expected_shapes(spec.towers), "it")
        assert {step.source for step in steps if step.source} == set(found)


def test_an_image_size_that_no_shape_shows_is_asked_for():
    table = next(t for t in FORMATS if t.name == "transformers SiglipModel")
    found = full_size(table, "siglip-so400m-patch14-384")
    with pytest.raises(JaxalignError, match="differ in what they compute: image size 378 or 384; say whose"):
        choose_spec(table, found, Facts(), "file")


def test_what_the_models_of_a_format_disagree_about_is_left_open(tmp_path):
    """SigLIP and SigLIP 2: another interpolation, other padding; no size of a vocabulary tells."""
    table = next(t for t in FORMATS if t.name == "transformers SiglipModel")
    found = full_size(table, "siglip2-base-patch16-224")
    chosen = choose_spec(table, found, Facts(), "file")
    assert (chosen.mean, chosen.std, chosen.vocabulary) == (None, None, None)
    half = (0.5, 0.5, 0.5)
    said = Facts(
        spec={"interpolation": "bilinear", "mean": half, "std": half, "pad_token": 0, "cleaning": "lower"}
    )
    chosen = choose_spec(table, found, said, "file")
    assert claimed(chosen, find_spec("siglip2-base-patch16-224")) == find_spec("siglip2-base-patch16-224")


@EVERY
def test_preprocessing_that_nothing_says_is_left_open(table, name):
    """Another model of the very shapes may have another: of DINOv3 there are two with means of their own."""
    spec, found = find_spec(name), full_size(table, name)
    facts = Facts(image={"image_size": spec.towers.image.image_size})
    if table.name.startswith(AMBIGUOUS):
        facts = Facts(image={**facts.image, "activation": "gelu"}, text={"activation": "gelu"})
        facts = replace(facts, image={}) if name == "clip-rn50" else facts
    chosen = choose_spec(table, found, facts, "file")
    assert (chosen.mean is None) == (table.name != "big_vision two_towers")
    if table.name.startswith("OpenAI") and "datacomp" not in name:  # whose own archives run one code
        assert choose_spec(table, found, Facts(), "file", is_torchscript=True).mean == spec.mean


def test_every_rule_is_in_force_for_some_model():
    """A line that never is would be a typing error."""
    used = set()
    for table, name in CASES:
        wanted = expected_shapes(tiny(name).towers)
        for rule in table.rules:
            if engine.bindings(rule, (), wanted):
                used.add((table.name, rule))
    optional = {"b", "txt/Encoder_0/pos_embedding"}
    idle = {
        (table.name, rule.source)
        for table in FORMATS
        for rule in table.rules
        if (table.name, rule) not in used and rule.targets and rule.targets[0] not in optional
    }
    # kinds of layers list a bias; these layers never have one, and an unwanted one is an error
    expected = {
        r
        for r in idle
        if re.search(r"(conv\d?|downsample\.0|proj|projection|head|patch_embedding)\.bias$", r[1])
    }
    extras = {("open_clip SigLIP (timm)", "visual.trunk." + n) for n in ("cls_token",)}
    extras |= {("open_clip SigLIP (timm)", f"visual.trunk.norm_pre.{n}") for n in ("weight", "bias")}
    extras |= {("transformers SiglipModel", f"vision_model.pre_layrnorm.{n}") for n in ("weight", "bias")}
    extras |= {("transformers SiglipModel", "vision_model.embeddings.class_embedding")}
    extras |= {("DINOv2 timm", "reg_token"), ("EVA02-CLIP original", "visual.norm_pre.weight")}
    extras |= {("big_vision two_towers", "txt/Encoder_0/pos_embedding")}
    extras |= {("big_vision two_towers", f"img/{n}") for n in ("cls", "head/kernel", "head/bias")}
    assert idle - expected - extras == set()


WANTED = {"a/kernel": (3, 2), "a/bias": (2,), "blocks_0/w": (4,), "blocks_1/w": (4,)}
FORMAT = Format(
    "toy",
    (
        Rule("a.weight", ("a/kernel",), linear),
        Rule("a.bias", ("a/bias",), value),
        Rule("blocks.{i}.w|layer.{i}.w", ("blocks_{i}/w",), value),
    ),
    telling=("a.weight",),
    ignored=(r"steps",),
)
SOURCE = {
    "a.weight": np.arange(6.0, dtype=np.float32).reshape(2, 3),
    "a.bias": np.ones(2, np.float32),
    "blocks.0.w": np.zeros(4, np.float32),
    "blocks.1.w": np.zeros(4, np.float32),
    "steps": np.zeros((), np.int64),
}


def test_by_hand():
    params = convert(FORMAT, stored(SOURCE), WANTED, "it")
    np.testing.assert_array_equal(params["a/kernel"], [[0, 3], [1, 4], [2, 5]])
    assert {k: v.shape for k, v in params.items()} == WANTED


def problems(change, table=FORMAT, wanted=WANTED) -> str:
    tensors = {k: v for k, v in (SOURCE | change).items() if v is not None}
    with pytest.raises(JaxalignError) as caught:
        plan(table, stored(tensors), wanted, "it.bin")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_everything_that_does_not_fit_is_in_one_message():
    message = problems(
        {
            "a.bias": None,
            "a.biass": np.ones(2, np.float32),
            "a.weight": np.zeros((3, 2), np.float32),
            "layer.1.w": np.zeros(4, np.float32),
            "blocks.0.w": np.zeros(4, np.int32),
        }
    )
    for part in (
        "the tensors of it.bin, read as toy, do not fit",
        "1 missing: a.bias",
        "2 left over: a.biass (meant a.bias?), layer.1.w",
        "1 misshapen: a.weight is (3, 2), expected (2, 3)",
        "1 of a wrong dtype: blocks.0.w is int32, expected float16/bfloat16/float32",
        "1 filled twice: blocks.1.w and layer.1.w, expected one of them",
    ):
        assert part in message


def test_faults_of_a_table_are_errors_too():
    def with_rules(*rules):
        return replace(FORMAT, rules=FORMAT.rules + rules)

    assert "1 missing: nothing for c" in problems({}, wanted=WANTED | {"c": (1,)})
    assert "1 filled twice: a/bias" in problems({}, with_rules(Rule("steps", ("a/bias",), value)))
    again = with_rules(Rule("a.bias", ("c",), value))
    assert "1 used twice: a.bias" in problems({}, again, WANTED | {"c": (2,)})


def test_zeros_and_what_must_be_zero():
    table = replace(FORMAT, rules=(*FORMAT.rules, Rule("", ("z",), zeros), Rule("a.extra", (), must_be_zero)))
    wanted = WANTED | {"z": (3,)}
    assert not convert(table, stored(SOURCE), wanted, "it")["z"].any()
    convert(table, stored(SOURCE | {"a.extra": np.zeros(5, np.float32)}), wanted, "it")
    with pytest.raises(JaxalignError, match=r"a\.extra is not all zeros"):
        convert(table, stored(SOURCE | {"a.extra": np.ones(5, np.float32)}), wanted, "it")


def test_pe_head_bias_of_timm(tmp_path):
    """Zeros are dropped, as the original has none; anything else is kept."""
    spec = tiny("pe-core-base-patch16")
    tensors = source_tensors(PE_TIMM, random_parameters(spec.towers))
    for bias in (np.zeros(12, np.float32), np.arange(12, dtype=np.float32)):
        save(tensors | {"visual.trunk.head.bias": bias}, tmp_path / "pe.safetensors")
        model = read(tmp_path / "pe.safetensors", spec)
        assert model.config.image.projection_bias == bias.any()
        if bias.any():
            np.testing.assert_array_equal(model.params["img"]["head"]["bias"], bias)


@pytest.mark.parametrize("dtype", [np.float16, jnp.bfloat16])
def test_half_precision_becomes_float32(dtype, tmp_path):
    spec = tiny("clip-vit-base-patch16")
    params = random_parameters(spec.towers)
    tensors = {k: v.astype(dtype) for k, v in source_tensors(FORMATS[0], params).items()}
    save(tensors, tmp_path / "half.safetensors")
    model = read(tmp_path / "half.safetensors", spec)
    for path, x in flatten(model.params).items():
        assert x.dtype == jnp.float32
        np.testing.assert_array_equal(x, params[path].astype(dtype).astype(np.float32))


def test_positions_are_resampled_where_the_spec_asks_for_it(tmp_path):
    spec = tiny("dinov2-base-meta")
    params = random_parameters(spec.towers)
    table = next(t for t in FORMATS if t.name == "DINOv2 original")
    tensors = source_tensors(table, params) | {"mask_token": np.zeros((1, 128), np.float32)}
    save(tensors, tmp_path / "dino.safetensors")
    image = replace(spec.towers.image, image_size=4 * 14)
    asked = replace(spec, towers=replace(spec.towers, image=image))
    with pytest.raises(JaxalignError, match=r"pos_embed is \(10, 128\), expected \(1, 17, 128\)"):
        read(tmp_path / "dino.safetensors", asked)
    model = read(tmp_path / "dino.safetensors", replace(asked, position_resampling="bicubic"))
    found = model.params["img"]["pos_embedding"]
    assert found.shape == (1, 17, 128)
    np.testing.assert_array_equal(found[:, 0], params["img/pos_embedding"][:, 0])


def test_torch_files_need_no_torch(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torch", None)  # an import of it would fail
    spec = tiny("clip-vit-base-patch16")
    params = random_parameters(spec.towers)
    tensors = {f"module.{k}": v for k, v in source_tensors(FORMATS[0], params).items()}
    path = write_torch_zip(tmp_path / "clip.pt", tensors)
    found = flatten(ja.load(path, spec=spec).params)
    for name, x in params.items():
        np.testing.assert_array_equal(found[name], x)


def test_a_file_that_is_no_model(tmp_path):
    save({"weight": np.zeros(3, np.float32)}, tmp_path / "m.safetensors")
    with pytest.raises(JaxalignError, match=r"holds 1 tensors \(weight, \.\.\.\) of no known formats"):
        ja.load(tmp_path / "m.safetensors")


def test_formats_and_records_name_each_other():
    """Each format is some record's, and only the embedded models have none."""
    named = {name for spec in MODELS.values() for name in spec.formats}
    assert named == {table.name for table in FORMATS}
    assert [spec.name for spec in MODELS.values() if not spec.formats] == ["emoji-clip", "emoji-siglip"]
    for table in FORMATS:
        assert all(find_spec(name).name == name for name in table.settings)
