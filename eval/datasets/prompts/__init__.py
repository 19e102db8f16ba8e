"""Shipped class names and prompt templates, those of CLIP and CoOp."""

import functools
import json
from collections.abc import Mapping
from importlib.resources import files
from types import MappingProxyType


@functools.cache
def _templates() -> Mapping[str, Mapping[str, tuple[str, ...]]]:
    stored = json.loads(files(__name__).joinpath("templates.json").read_text(encoding="utf-8"))
    return {
        dataset: {name: tuple([of] if isinstance(of, str) else of) for name, of in sets.items()}
        for dataset, sets in stored.items()
    }


def read_templates(dataset: str) -> Mapping[str, tuple[str, ...]]:
    """The shipped templates of a data set, each with one `{}` for the class name.

    Returns:
      By name: `single` (CoOp's hand-written one), `ensemble` (CLIP's list, of its `data/prompts.md` and of
        its
      ImageNet notebook), `subset` (ImageNet: the seven that CLIP's authors found to be nearly as good as all
      80). Empty for a data set without templates.
    """
    return MappingProxyType(_templates().get(dataset, {}))


@functools.cache
def imagenet_class_names() -> Mapping[str, str]:
    """CLIP's names of the 1,000 ImageNet classes by WordNet id, in the order of their labels.

    Two names stand for two classes each: missile and sunglasses.
    """
    lines = files(__name__).joinpath("imagenet.txt").read_text(encoding="utf-8").splitlines()
    return MappingProxyType(dict(line.split(" ", 1) for line in lines))


def fill_template(template: str, class_name: str) -> str:
    """The prompt for a class, with spaces for underscores in its name, as CoOp has it."""
    return template.replace("{}", class_name.replace("_", " "))
