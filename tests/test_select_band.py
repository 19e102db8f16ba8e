"""The band chosen from the spectrum alone beside the best band on a labelled grid."""

import numpy as np
import pytest

import jaxalign as ja
from jaxalign.eval.datasets import load_split, prepare

GRID = (0, 1, 2, 4, 8, 16, 32, 48, 64, 80, 96)


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    data_dir = tmp_path_factory.mktemp("tfds")
    prepare("emoji-scenes", data_dir)
    return load_split("emoji-scenes", "test", data_dir)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["emoji-clip", "emoji-siglip"])
def test_selected_band_is_no_worse_than_all_directions(name, scenes):
    model = ja.load(name)
    features = np.concatenate(
        [
            model.encode_image(scenes.images[i : i + 256], projected=False)
            for i in range(0, len(scenes.images), 256)
        ]
    )
    labels = scenes.labels["emoji"]
    queries = np.unique(labels, return_index=True)[1]
    sweep = lambda k_top, k_bottom: ja.sweep_bands(
        model.projectors,
        features[queries],
        features,
        labels[queries],
        labels,
        k_top=k_top,
        k_bottom=k_bottom,
        exclude_self=queries,
    )
    grid = sweep(GRID, GRID)
    k_top, k_bottom = ja.select_band(ja.decompose(model.projectors))
    selected = sweep([k_top], [k_bottom]).mAP[0, 0]
    best = np.nanmax(grid.mAP)
    print(f"{name}: selected {(k_top, k_bottom)} mAP {selected:.2f} %, best {grid.best} mAP {best:.2f} %")
    assert selected >= grid.mAP[0, 0]  # 0.82 and 0.97 of the best were measured: it sees no flat middle here
