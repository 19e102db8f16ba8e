"""A row of the table in docs/embedded.md for each trained model: what the demo measures on held-out emoji.

    python tools/embedded_table.py /tmp/emoji-clip /tmp/other-run

Reads what `train_embedded.py` left in its state folders. Bands and ranks are chosen on training names; gains
are on held-out ones, with their standard errors.
"""

import tempfile
from pathlib import Path
from typing import Any

import export_embedded
import numpy as np
import tyro
from training_sizes import NOTE

import jaxalign as ja
from jaxalign.eval.demo import run
from jaxalign.local_files import read_json

COLUMNS = (
    *("run", "plain", "in scenes", "same emoji", "isotropic", "isoclip's band", "isoclip", "pca", "pca-rank"),
    *("oti, 20 steps", "oti, 150 steps"),
)


def isotropic_share(low: np.ndarray) -> float:
    """The share of directions in the longest band of the spectrum whose values differ by at most twofold."""
    high = low[:, None]
    return float(((low <= high) & (high <= 2 * low)).sum(1).max() / len(low))


def row(name: str, folder: Path, entry: dict[str, Any]) -> list[str]:
    """The cells of the model in `folder`, from its entry of `metrics.json`."""
    images, names = entry["image_retrieval"], entry["inter_modal"]
    spectrum = np.asarray(ja.decompose(ja.load(str(folder)).projectors).s)
    gain = lambda method: "{gain:+.1f} ± {gain_error:.1f}".format(**images[method])
    steps = entry["inversions"]["OTI"]["mAP_by_step"]
    return [
        name,
        *(f"{names[dataset]['mAP']:.1f}" for dataset in ("emoji", "emoji-scenes")),
        f"{images['image-image']['mAP']:.1f}",
        f"{isotropic_share(spectrum):.0%} of {len(spectrum)}",
        f"{entry['band']['k_top']}, {entry['band']['k_bottom']}",
        *(gain(method) for method in ("isoclip", "pca", f"pca-rank{entry['pca_rank']}")),
        *(f"{steps[str(step)]:.1f}" for step in (20, 150)),
    ]


def main(states: tyro.conf.Positional[tuple[Path, ...]]) -> None:
    """Print the table of the models in the folders `states`, each of which is named after its folder."""
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for state in states:
            target = Path(scratch) / state.name
            name = read_json(state / NOTE)["name"]
            export_embedded.main(name, state, target=target)
            folder = target / name
            rows.append(row(state.name, folder, run(target / "demo", [str(folder)])))
    for cells in (COLUMNS, ["---"] * len(COLUMNS), *rows):
        print(f"| {' | '.join(cells)} |")


if __name__ == "__main__":
    tyro.cli(main)
