"""Commands as one process or as one of several: `run_commands.py FOLDER NAME [PORT COUNT INDEX]`.

FOLDER has `photos`, `tfds` and `names.txt`; runs go to FOLDER/NAME-runs, features to FOLDER/NAME-store.
"""

import sys

from jaxalign.eval import cli
from jaxalign.eval.processes import connected


def run(folder, name):
    photos = ["--dataset", f"folder:{folder}/photos"]
    places = ["--out", f"{folder}/{name}-runs", "--store", f"{folder}/{name}-store"]
    pca = ["--class-names", f"{folder}/names.txt", "--rank", "6"]
    for arguments in (
        ["retrieve", *photos, *places, *pca, "--methods", "image-image", "pca", "oti", "--steps", "2"],
        ["text-retrieve", *places, "--data-dir", f"{folder}/tfds", "--methods", "text-text"],
        ["sweep", *photos, *places, "--k-top", "0", "8", "--k-bottom", "0", "32"],
        ["classify", *photos, *places, "--classifiers", "ncm", "prototype", "--shots", "1"],
    ):
        cli.parse(arguments).run()


def main(folder, name, *processes):
    if not processes:
        run(folder, name)
        return
    port, count, index = map(int, processes)
    with connected(f"127.0.0.1:{port}", count, index, lost_after=120):
        run(folder, name)


if __name__ == "__main__":
    main(*sys.argv[1:])
