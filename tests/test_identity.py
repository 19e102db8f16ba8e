"""Which published checkpoint a model is: its repository or its file's digest says, and nothing else does."""

import dataclasses
import hashlib
import json
import re
import shutil
from pathlib import Path

import jax
import numpy as np
import pytest
from oracles_conversion import (
    TINY_CLIP_CONFIG,
    random_parameters,
    source_tensors,
    tiny,
    write_npz,
    write_torch_zip,
)
from safetensors.numpy import load_file, save_file

import jaxalign as ja
from jaxalign.conversion.conversion import convert_checkpoint
from jaxalign.conversion.formats import FORMATS
from jaxalign.errors import JaxalignError
from jaxalign.eval import cli
from jaxalign.specs import MODELS, ModelSpec, find_spec, spec_to_json
from jaxalign.specs.published import PUBLISHED, PublishedFile, shapes_digest
from jaxalign.weights import identity
from jaxalign.weights.identity import claimed, is_known, published_as
from jaxalign.weights.tensors import expected_shapes, flatten

CLIP, DATACOMP = "clip-vit-base-patch16", "clip-vit-base-patch16-datacomp"
ARCHIVE = {"input_resolution": 48, "context_length": 10, "vocab_size": 50}  # what OpenAI's hold besides
OPEN_CLIP_CONFIG = {
    "model_cfg": {
        "embed_dim": 12,
        "vision_cfg": {"image_size": 48, "layers": 2, "width": 128, "patch_size": 16, "mlp_ratio": 40 / 128},
        "text_cfg": {"context_length": 10, "vocab_size": 50, "width": 64, "heads": 1, "layers": 3}
        | {"mlp_ratio": 28 / 64},
    },
    "preprocess_cfg": {},
}


@pytest.fixture(autouse=True)
def small_records(monkeypatch):
    """All known models but the embedded ones with small sizes, so that small files have just their shapes."""
    for name, spec in MODELS.items():
        if not name.startswith("emoji"):
            monkeypatch.setitem(MODELS, name, dataclasses.replace(tiny(spec), name=name))


def tensors_of(table: str, name: str, seed: int = 0) -> dict[str, np.ndarray]:
    """Random weights in a format, of the very shapes of a known model."""
    spec, found = find_spec(name), next(t for t in FORMATS if t.name == table)
    tensors = source_tensors(found, random_parameters(spec.towers, seed))
    tensors |= {n: np.zeros(1, np.float32) for n in found.telling if n not in tensors}
    return {k: np.ascontiguousarray(v) if v.ndim else v for k, v in tensors.items()}


def clip_tensors(seed: int = 0) -> dict[str, np.ndarray]:
    return tensors_of("OpenAI / open_clip CLIP", CLIP, seed)


def safetensors(path: Path, tensors) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file({k: np.ascontiguousarray(v) for k, v in tensors.items()}, path)
    return path


def huggingface(folder: Path, seed: int = 0, **vision) -> Path:
    """A folder of transformers; `vision` changes its configuration, of both towers."""
    config = json.loads(json.dumps(TINY_CLIP_CONFIG))
    for tower in ("text_config", "vision_config"):
        config[tower] |= vision
    safetensors(folder / "model.safetensors", tensors_of("transformers CLIPModel", CLIP, seed))
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def open_clip(folder: Path, **model) -> Path:
    safetensors(folder / "open_clip_model.safetensors", clip_tensors())
    config = OPEN_CLIP_CONFIG | {"model_cfg": OPEN_CLIP_CONFIG["model_cfg"] | model}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    return folder


def ours(folder: Path, **claims) -> Path:
    """A folder in our format whose configuration claims whatever it likes."""
    spec = find_spec(CLIP)
    model = ja.DualEncoder(
        spec, jax.tree.map(np.asarray, ja.load(torch(folder.parent / "w.pt"), spec=CLIP).params)
    )
    ja.save(model, folder)
    config = {"format": "jaxalign", "version": 1} | spec_to_json(spec) | claims
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def torch(path: Path, tensors=None, prefix: str = "", **more) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    tensors = clip_tensors() if tensors is None else tensors
    tensors = {prefix + k: v for k, v in tensors.items()} | {k: np.array(v) for k, v in more.items()}
    return write_torch_zip(path, tensors)


def sharded(folder: Path) -> Path:
    """A folder of transformers with an index, of one shard."""
    tensors = tensors_of("transformers CLIPModel", CLIP)
    safetensors(folder / "a.safetensors", tensors)
    index = {"weight_map": dict.fromkeys(tensors, "a.safetensors")}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "config.json").write_text(json.dumps(TINY_CLIP_CONFIG))
    return folder


# Own checkpoints, each in the shape of a known model: how it is written, and the `spec` that it needs.
OWN = {
    "transformers, fine-tuned": (lambda at: huggingface(at / "cats"), None),
    "transformers, in a folder of the record's name": (
        lambda at: huggingface(at / "clip-vit-base-patch16"),
        None,
    ),
    "transformers, in folders of the hub's names": (lambda at: huggingface(at / "openai" / CLIP), None),
    "transformers, trained with gelu": (lambda at: huggingface(at / "cats", hidden_act="gelu"), None),
    "transformers, an index": (lambda at: sharded(at / "cats"), None),
    "transformers, its weights alone": (
        lambda at: shutil.copy(huggingface(at / "x") / "model.safetensors", at / "pytorch.safetensors"),
        CLIP,
    ),
    "open_clip, gelu": (lambda at: open_clip(at / "run"), None),
    "open_clip, quick_gelu": (lambda at: open_clip(at / "run", quick_gelu=True), None),
    "a bare .pt": (lambda at: torch(at / "epoch_32.pt"), DATACOMP),
    "a bare .pt with a prefix": (lambda at: torch(at / "epoch_32.pt", prefix="module."), CLIP),
    "a bare .pt of OpenAI's name": (lambda at: torch(at / "ViT-B-16.pt"), DATACOMP),
    "an archive in OpenAI's form": (lambda at: torch(at / "ViT-B-16.pt", **ARCHIVE), None),
    "a bare .safetensors": (lambda at: safetensors(at / "m.safetensors", clip_tensors()), DATACOMP),
    "a bare .bin": (lambda at: torch(at / "b.bin"), CLIP),
    "a ResNet of open_clip": (
        lambda at: torch(at / "RN50.pt", tensors_of("OpenAI / open_clip CLIP with a ResNet", "clip-rn50")),
        DATACOMP,
    ),
    "SLIP, under the name of the published file": (
        lambda at: torch(at / "slip_base_100ep.pt", tensors_of("SLIP original", "slip-vit-base-patch16")),
        None,
    ),
    "DINOv3, under the name of the published file": (
        lambda at: torch(
            at / "dinov3_vitl16_pretrain_lvd1689m-8aa4cbdd.pth",
            tensors_of("DINOv3 original", "dinov3-large-patch16"),
        ),
        None,
    ),
    "big_vision, under the name of the published file": (
        lambda at: write_npz(
            at / "siglip2_b16_224.npz",
            tensors_of("big_vision two_towers", "siglip2-base-patch16-224-big-vision"),
        ),
        None,
    ),
    "ours, with a record's claims": (lambda at: ours(at / "stolen"), None),
    "ours, with all but a record's name": (lambda at: ours(at / "stolen", name="mine"), None),
    "ours, with a record's hub id": (lambda at: ours(at / "stolen", name="mine", source="elsewhere"), None),
    "ours, with a digest of other weights": (lambda at: ours(at / "stolen", weights="0" * 64), None),
    "ours, called as a file is": (lambda at: ours(at / "ViT-B-16"), None),
}


@pytest.mark.parametrize("kind", OWN)
@pytest.mark.long
def test_an_own_checkpoint_is_nobody_else_s(kind, tmp_path):
    write, spec = OWN[kind]
    path = Path(write(tmp_path))
    model = ja.load(path, spec=spec)
    record = find_spec(CLIP)
    assert not is_known(model.name)
    assert model.name in (path.name, str(path), "mine")
    assert model.spec == identity.own(model.spec, model.name, str(path))  # which claims nothing
    assert (model.spec.licence, model.spec.band, model.spec.hub_ids) == ("unknown", None, ())
    assert str(path) in model.title
    if "DINO" not in kind and "big_vision" not in kind and "ResNet" not in kind:
        assert model.config.image.width == record.towers.image.width  # the shape is the record's
    named = ja.load(path, spec=spec, name="Miau 7")
    assert (named.name, named.spec.source, named.title) == ("Miau 7", str(path), f"Miau 7 ({path})")
    with pytest.raises(
        JaxalignError, match=f"name is 'ViT-B/16', which is a known model's, and .*{path.name}"
    ):
        ja.load(path, spec=spec, name="ViT-B/16")


@pytest.mark.parametrize(
    ("kind", "activation"),
    [
        ("transformers, fine-tuned", "quick_gelu"),
        ("transformers, trained with gelu", "gelu"),
        ("open_clip, gelu", "gelu"),
        ("open_clip, quick_gelu", "quick_gelu"),
        ("a bare .pt of OpenAI's name", "gelu"),
        ("an archive in OpenAI's form", "quick_gelu"),
        ("a ResNet of open_clip", "gelu"),
    ],
)
@pytest.mark.long
def test_an_own_checkpoint_has_its_own_activation(kind, activation, tmp_path):
    write, spec = OWN[kind]
    assert ja.load(write(tmp_path), spec=spec).config.text.activation == activation


@pytest.mark.parametrize("kind", [kind for kind, (_, spec) in OWN.items() if spec])
def test_what_no_file_tells_is_asked_for(kind, tmp_path):
    with pytest.raises(
        JaxalignError, match=r"text activation (quick_gelu or gelu|gelu or quick_gelu); say whose"
    ):
        ja.load(OWN[kind][0](tmp_path))


def test_a_configuration_and_a_spec_that_contradict_each_other(tmp_path):
    folder = huggingface(tmp_path / "cats")
    message = (
        "contradicts spec 'clip-vit-base-patch16-datacomp': image activation is quick_gelu, and .* has gelu"
    )
    with pytest.raises(JaxalignError, match=message):
        ja.load(folder, spec=DATACOMP)
    said = '{"image_mean": [0.1, 0.2, 0.3], "size": 48, "crop_size": 48}'
    (folder / "preprocessor_config.json").write_text(said)
    with pytest.raises(JaxalignError, match=r"mean is \(0\.1, 0\.2, 0\.3\), and clip-vit-base-patch16 has"):
        ja.load(folder, spec=CLIP)
    assert ja.load(folder).spec.mean == (0.1, 0.2, 0.3)
    (folder / "preprocessor_config.json").write_text('{"size": 48, "crop_size": 48}')
    assert ja.load(folder, spec=CLIP).spec.pipeline == "transformers"  # as the file says


def test_all_facts_that_a_user_states(tmp_path):
    """A record in Python proves no more than its name does; what is the user's own stays."""
    path = torch(tmp_path / "x.pt")
    spec = ja.load(path, spec=find_spec(CLIP)).spec
    assert (spec.name, spec.source, spec.licence, spec.band) == ("x.pt", str(path), "unknown", None)
    mine = dataclasses.replace(spec, name="mine", source="our lab", licence="CC0-1.0", band=(1, 2))
    assert ja.load(path, spec=mine).spec == mine


@pytest.fixture
def published(tmp_path, monkeypatch):
    """OpenAI's file in small, and its digest in the table."""
    path = torch(tmp_path / "ViT-B-16.pt", **ARCHIVE)
    content = path.read_bytes()
    file = PublishedFile("ViT-B-16.pt", len(content), hashlib.sha256(content).hexdigest())
    monkeypatch.setitem(PUBLISHED, CLIP, (file,))
    return path


def test_a_published_file_is_known_whatever_it_is_called(published, tmp_path):
    other = shutil.copy(published, tmp_path / "my-finetune.pt")
    for path in (published, other):
        model = ja.load(path)
        assert (model.spec, model.title) == (find_spec(CLIP), CLIP)
    assert ja.load(other, name="x").spec == dataclasses.replace(find_spec(CLIP), name="x")
    with pytest.raises(
        JaxalignError, match=f"is the published file of {CLIP}, whose settings are not those of"
    ):
        ja.load(other, spec=DATACOMP)
    assert ja.load(other, spec=CLIP).spec == find_spec(CLIP)


def test_one_bit_makes_it_another_model(published):
    content = bytearray(published.read_bytes())
    content[content.index(clip_tensors()["visual.proj"].tobytes()[:64])] ^= 1
    published.write_bytes(bytes(content))
    with pytest.raises(JaxalignError, match=r"checksum|damaged"):
        ja.load(published)  # of the archive; the next has a right one
    torch(published, clip_tensors(seed=1), **ARCHIVE)
    assert ja.load(published).spec.band is not find_spec(CLIP).band
    assert ja.load(published).name == str(published)


def test_published_weights_under_another_configuration(tmp_path, monkeypatch):
    """Only the very model that the record describes has its name and band."""
    folder = huggingface(tmp_path / "clip")
    content = (folder / "model.safetensors").read_bytes()
    file = PublishedFile("model.safetensors", None, hashlib.sha256(content).hexdigest())
    stated = ja.load(folder, spec=CLIP).spec
    record = claimed(stated, find_spec(CLIP))  # the small one has other tokens
    monkeypatch.setitem(MODELS, CLIP, dataclasses.replace(record, pipeline="open_clip"))
    monkeypatch.setitem(PUBLISHED, CLIP, (file,))
    assert ja.load(folder).spec == find_spec(CLIP)
    preprocessor = folder / "preprocessor_config.json"
    preprocessor.write_text('{"size": 48, "crop_size": 48}')
    assert ja.load(folder).spec == dataclasses.replace(record, pipeline="transformers")
    preprocessor.write_text('{"size": 48, "crop_size": 48, "image_mean": [0.1, 0.2, 0.3]}')
    assert (ja.load(folder).name, ja.load(folder).spec.band) == ("clip", None)
    preprocessor.unlink()
    huggingface(folder, hidden_act="gelu")
    spec = ja.load(folder).spec
    assert (spec.name, spec.band, spec.licence) == ("clip", None, "unknown")


def test_nothing_is_hashed_that_cannot_be_known(tmp_path, monkeypatch):
    path = torch(tmp_path / "x.pt")
    monkeypatch.setitem(PUBLISHED, CLIP, (PublishedFile("ViT-B-16.pt", 350_837_078, "0" * 64),))
    monkeypatch.setattr(identity, "open_regular", None)
    assert published_as(path, [find_spec(CLIP)]) is None
    assert ja.load(path, spec=CLIP).name == "x.pt"


@pytest.mark.parametrize("dtype", [None, "float16"])
def test_a_saved_copy_of_a_known_model_is_known(published, tmp_path, dtype):
    model, folder = ja.load(published), tmp_path / "copy"
    ja.save(model, folder, dtype=dtype)
    assert ja.load(folder).spec == find_spec(CLIP)
    ja.save(ja.load(folder), tmp_path / "again")
    assert ja.load(tmp_path / "again").spec == find_spec(CLIP)
    tensors = load_file(folder / "model.safetensors")
    tensors["t"] = tensors["t"] + 1
    save_file(tensors, folder / "model.safetensors")
    spec = ja.load(folder).spec
    assert (spec.name, spec.source, spec.band, spec.licence) == ("copy", str(folder), None, "unknown")


def test_a_changed_model_is_saved_as_one_of_its_own(published, tmp_path):
    model = ja.load(published)
    tuned = dataclasses.replace(model, params=jax.tree.map(lambda x: x * 1.01, model.params))
    other = dataclasses.replace(model.spec, mean=(0.5, 0.5, 0.5))
    for changed in (tuned, dataclasses.replace(model, spec=other), ja.DualEncoder(model.spec, model.params)):
        folder = tmp_path / "tuned"
        ja.save(changed, folder)
        spec = ja.load(folder).spec
        assert (spec.name, spec.source, spec.band, spec.licence) == ("tuned", str(folder), None, "unknown")
        assert spec.mean == changed.spec.mean
    named = dataclasses.replace(tuned, spec=dataclasses.replace(model.spec, name="mine"))
    ja.save(named, tmp_path / "named")
    spec = ja.load(tmp_path / "named").spec
    assert (spec.name, spec.band, spec.hub_ids) == ("mine", None, ())
    layout = model.with_layout("reference")
    ja.save(layout, tmp_path / "layout")
    assert ja.load(tmp_path / "layout").spec == layout.spec


def test_a_folder_from_before_digests_keeps_its_shape_alone(published, tmp_path):
    folder = tmp_path / "old"
    ja.save(ja.load(published), folder)
    config = json.loads((folder / "config.json").read_text())
    del config["weights"]
    (folder / "config.json").write_text(json.dumps(config))
    model = ja.load(folder)
    assert (model.name, model.spec.band) == ("old", None)
    assert model.config == find_spec(CLIP).towers


def test_the_embedded_models_wherever_they_lie(tmp_path):
    source = Path(ja.__file__).parent / "embedded" / "emoji-clip"
    shutil.copytree(source, tmp_path / "copy")
    assert ja.load(tmp_path / "copy").spec == ja.load("emoji-clip").spec == find_spec("emoji-clip")
    tensors = load_file(source / "model.safetensors")
    save_file({k: v * 2 for k, v in tensors.items()}, tmp_path / "copy" / "model.safetensors")
    assert ja.load(tmp_path / "copy").name == "copy"


def test_convert_keeps_what_is_known_and_takes_a_name(published, tmp_path, capsys):
    assert convert_checkpoint(published, tmp_path / "a")["name"] == CLIP
    assert ja.load(tmp_path / "a").spec == find_spec(CLIP)
    own = str(torch(tmp_path / "x.pt", clip_tensors(seed=2)))
    arguments = ["convert", own, str(tmp_path / "b"), "--spec", DATACOMP, "--name", "cats"]
    assert cli.main(arguments) == 0
    assert capsys.readouterr().out.startswith("cats: ")
    spec = ja.load(tmp_path / "b").spec
    assert (spec.name, spec.source, spec.towers.image.activation) == ("cats", own, "gelu")
    assert cli.main([*arguments[:-1], "ViT-B/16"]) == 1
    assert "name is 'ViT-B/16', which is a known model's" in capsys.readouterr().err


def test_a_commit_that_no_record_pins(tmp_path, monkeypatch):
    """Its weights need not be those that the band was printed for."""
    record = find_spec(CLIP)
    for commit, band in ((record.revision, record.band), ("5" * 40, None)):
        folder = huggingface(tmp_path / commit)
        monkeypatch.setattr("jaxalign.weights.checkpoint.fetch_checkpoint", lambda *_, folder=folder: folder)
        spec = ja.load(CLIP).spec
        assert (spec.name, spec.source, spec.licence) == (CLIP, record.source, "MIT")
        assert (spec.revision, spec.band, spec.text_band) == (commit, band, band and record.text_band)
    spec = ja.load("some/one").spec
    assert (spec.name, spec.source, spec.revision) == ("some/one", "some/one", "5" * 40)
    assert (spec.licence, spec.band) == ("unknown", None)
    spec = ja.load(CLIP, spec=CLIP).spec  # a user's word is none of the repository's
    assert (spec.name, spec.licence, spec.band) == (record.source, "unknown", None)


def test_the_table_of_published_files():
    """It has known models alone, and no digest is another's."""
    assert set(PUBLISHED) < set(MODELS)
    files = [file for found in PUBLISHED.values() for file in found]
    assert len({file.sha256 for file in files}) == len(files)
    assert all(len(file.sha256) == 64 and int(file.sha256, 16) for file in files)
    for file in files:  # some have the first digits of theirs in their name
        digits = re.search(r"-([0-9a-f]{8})\.", file.name)
        assert digits is None or file.sha256.startswith(digits[1])
    specs: list[ModelSpec] = [MODELS[name] for name in (CLIP, DATACOMP, "clip-rn50")]
    first, alike, other = (shapes_digest(spec.towers) for spec in specs)
    assert first == alike != other
    assert len(expected_shapes(specs[0].towers)) == len(flatten(random_parameters(specs[0].towers)))
