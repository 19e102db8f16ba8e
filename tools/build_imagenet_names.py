"""Write the class names that the published code of PCA<- downloads to jaxalign/class_names/.

    python tools/build_imagenet_names.py

That code reads `imagenet_classes.txt` of pytorch/hub. torchvision (BSD-3-Clause) has the same names in the
metadata of its weights, but for two that it tells apart and the file does not.
"""

from pathlib import Path

import jaxalign

TOLD_APART = {"crane bird": "crane", "maillot tank suit": "maillot"}


def main() -> None:
    from torchvision.models import ResNet50_Weights  # pyright: ignore[reportMissingImports]

    names = [TOLD_APART.get(name, name) for name in map(str, ResNet50_Weights.DEFAULT.meta["categories"])]
    file = Path(jaxalign.__file__).parent / "class_names" / "imagenet_torchhub.txt"
    file.write_text("\n".join(names) + "\n", encoding="utf-8")
    print(f"{file}: {len(names)} names")


if __name__ == "__main__":
    main()
