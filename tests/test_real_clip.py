"""The files behind docs/real_clip.md: both layouts hold the same, and each class gets its own text."""

import json
from pathlib import Path

import numpy as np
import pytest

from jaxalign import JaxalignError

RNG = np.random.default_rng(0)
NAMES = {0: "tench, Tinca tinca", 1: "giant panda, panda", 2: "red panda, panda", 3: "cell phone, cellphone"}
LVIS = [
    {"id": 2, "name": "crab_(animal)", "synonyms": ["crab_(animal)"]},
    {"id": 1, "name": "cup", "synonyms": ["cup"]},
]


@pytest.fixture
def tools(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent / "tools"))
    import real_clip_files  # pyright: ignore[reportMissingImports]

    return real_clip_files


@pytest.fixture
def folders(tools, tmp_path):
    """The same content as checkouts and flat."""
    torch = pytest.importorskip("torch")
    checkouts, flat = tmp_path / "checkouts", tmp_path / "flat"
    features, labels = RNG.normal(size=(6, tools.WIDTH)).astype(np.float16), np.arange(6) % 3
    save = lambda array, path: (
        path.parent.mkdir(parents=True, exist_ok=True),
        torch.save(torch.tensor(array), path),
    )
    own = checkouts / "IMAS" / "caches" / "dtd"
    save(features, own / "test_f.pt")
    save(labels, own / "test_l.pt")
    save(features.T, own / "keys_16shots.pt")
    save(np.eye(3, dtype=np.float16)[labels], own / "values_16shots.pt")
    flat.mkdir()
    for split in ("test", "train16shot"):
        np.savez(flat / f"clip_b32_dtd_{split}.npz", features=features, labels=labels)
    texts = {"imagenet": RNG.normal(size=(4, tools.WIDTH)), "lvis": RNG.normal(size=(2, tools.WIDTH))}
    for name, array in texts.items():
        for path in (checkouts / tools.SOURCES[name].file, flat / tools.FLAT[name]):
            path.parent.mkdir(parents=True, exist_ok=True)
            save(array, path) if path.suffix == ".pt" else np.save(path, array)
    for name, code in (
        ("imagenet names", f"labels_names = {NAMES}"),
        ("lvis names", f"# made\nX = {LVIS}  # noqa"),
    ):
        path = checkouts / tools.SOURCES[name].file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(code)
    (flat / tools.FLAT["imagenet names"]).write_text(f"\nlabels_names = {NAMES}")
    (flat / tools.FLAT["lvis names"]).write_text(json.dumps(LVIS))
    return tools.Files(checkouts, flat=False), tools.Files(flat, flat=True)


def test_both_layouts_hold_the_same(folders):
    checkouts, flat = folders
    for split in ("test", "train"):
        for mine, other in zip(checkouts.required("dtd", split), flat.required("dtd", split), strict=True):
            np.testing.assert_array_equal(mine, other)
    for name in ("imagenet", "lvis"):
        (texts, names), (other_texts, other_names) = checkouts.texts(name), flat.texts(name)
        np.testing.assert_array_equal(texts, other_texts)
        assert names == other_names
    assert names == [("cup", "cup"), ("crab", "crab")]
    with pytest.raises(JaxalignError, match="split val of dtd is not in"):
        flat.required("dtd", "val")


def test_a_class_has_a_text_where_exactly_one_is_called_so(tools):
    names = [tuple(map(tools.plain_name, text.split(", "))) for text in NAMES.values()]
    found = tools.classes_with_text(["panda", "cellphone", "tench", "unicorn", "red panda"], names)
    assert found == {1: 3, 2: 0, 4: 2}  # two are called panda


def test_the_lists_of_classes_are_whole(tools):
    assert [len(names) for names in tools.CLASSES.values()] == [100, 37]
    assert all(len(set(names)) == len(names) for names in tools.CLASSES.values())
