"""Shipped class names and prompt templates, those of CLIP and CoOp."""

import functools
import json
from collections.abc import Mapping
from importlib.resources import files
from types import MappingProxyType


@functools.cache
def read_templates(dataset: str) -> Mapping[str, tuple[str, ...]]:
    """The shipped lists of templates of a data set, each with one `{}` for the class name.

    Returns:
      By name: `ensemble` (CLIP's list, of its `data/prompts.md`) and for ImageNet `subset` (the seven that
      CLIP's authors found to be nearly as good as all 80). Empty for a data set without such lists.
    """
    stored = json.loads(files(__name__).joinpath("templates.json").read_text(encoding="utf-8"))
    templates = {name: tuple(texts) for name, texts in stored.get(dataset, {}).items()}
    if dataset == "imagenet":
        from jaxalign.prompts import imagenet_templates  # here, for the reason given below

        templates |= {which: imagenet_templates(which) for which in ("ensemble", "subset")}
    return MappingProxyType(templates)


@functools.cache
def imagenet_class_names() -> Mapping[str, str]:
    """CLIP's names of the 1,000 ImageNet classes by WordNet id, in the order of their labels.

    Two names stand for two classes each: missile and sunglasses.
    """
    from jaxalign.prompts import class_names  # here: records, for `--help`, are to be had without jax

    wnids = files(__name__).joinpath("imagenet_wnids.txt").read_text(encoding="utf-8").splitlines()
    return MappingProxyType(dict(zip(wnids, class_names("imagenet"), strict=True)))


def fill_template(template: str, class_name: str) -> str:
    """The prompt for a class, with spaces for underscores in its name, as CoOp has it."""
    return template.replace("{}", class_name.replace("_", " "))
