"""`jaxalign models`: what is known, and what is there."""

import math
from dataclasses import dataclass, replace
from functools import cache
from typing import Annotated, Any

import tyro

from .options import JsonFile, option
from .printing import print_facts, print_list, write_json


@dataclass(frozen=True)
class Models:
    """List the known models, and which of them are here.

    With its name a model is described at length: source, licence, size, activation, preprocessing, tokens.

    A band is the number of singular directions that IsoCLIP leaves out at the top and at the bottom, as
    printed in table S10 of its paper.

    Examples:
      jaxalign models
      jaxalign models clip-vit-base-patch16
      jaxalign models --json models.json
    """

    names: Annotated[
        tuple[str, ...],
        tyro.conf.Positional,
        option("Models whose every fact is printed.", "[NAME ...]", "a list of all"),
    ] = ()
    json: JsonFile = None

    def run(self) -> None:
        from jaxalign.specs import MODELS, find_spec

        specs = [find_spec(name) for name in self.names] or MODELS.values()
        models = [describe_model(spec) for spec in specs]
        write_json(self.json, models)
        if self.names:
            for model in models:
                print_facts(model["name"], model["available"], model_facts(model) | published(model["name"]))
            return
        print_list(models, COLUMNS, NOTES)


COLUMNS = {
    "parameters": lambda model: f"{model['parameters'] / 1e6:.1f} M",
    "images": lambda model: f"{model['image_size']} px",
    "texts": lambda model: f"{model['context']} tokens" if model["context"] else "",
    "band": lambda model: format_band(model["band"]),
    "text band": lambda model: format_band(model["text_band"]),
}
NOTES = {
    "cached": 'cached: in the hub\'s cache; jaxalign.load("NAME") needs no network',
    "hub": 'hub: `jaxalign fetch NAME` or jaxalign.load("NAME") downloads it; without network, put the'
    " files of the source into a folder and load that",
    "file": "file: download the source and load that file",
}


def describe_model(spec: Any) -> dict[str, Any]:
    """The facts of a `jaxalign.specs.ModelSpec`: what the list shows and more, and as `spec` the record."""
    from jaxalign.specs import spec_to_json
    from jaxalign.weights.availability import find_model

    image, text = spec.towers.image, spec.towers.text
    found = find_model(spec)
    return {
        "name": spec.name,
        "hub_ids": list(spec.hub_ids),
        "aliases": list(spec.aliases),
        "parameters": count_parameters(spec.towers),
        "embedding_width": image.embedding_width,
        "image_size": image.image_size,
        "context": text.context if text else None,
        "band": spec.band or None,
        "text_band": spec.text_band or None,
        "local": found.is_local,
        "available": found.state,
        "folder": str(found.folder) if found.folder else None,
        "advice": found.advice,
        **{fact: getattr(spec, fact) for fact in ("licence", "source", "revision", "paper")},
        "spec": spec_to_json(spec),
    }


def model_facts(model: dict[str, Any]) -> dict[str, str]:
    """All of `describe_model` as text, each once: `image.heads` is in the record's towers."""
    facts = {key: value for key, value in model.items() if key not in ("name", "available", "local", "spec")}
    record = {key: value for key, value in model["spec"].items() if key != "name"}
    towers = record.pop("towers")
    facts |= record
    for tower in ("image", "text"):
        facts |= {f"{tower}.{key}": value for key, value in (towers.pop(tower) or {}).items()}
    return {key: _as_text(value) for key, value in (facts | towers).items()}


def published(name: str) -> dict[str, str]:
    """The files by whose digest a model is known to be this one; where none is known here, what is."""
    from jaxalign.specs import MODELS
    from jaxalign.specs.published import PUBLISHED, shapes_digest

    if name in PUBLISHED:
        return {f"SHA-256 of {file.name}": file.sha256 for file in PUBLISHED[name]}
    return {
        "SHA-256 of its file": "not known here: known by its repository alone",
        "SHA-256 of names and shapes": f"{shapes_digest(MODELS[name].towers)}, which others have as well",
    }


def _as_text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "-"
    return "-" if value is None or value == "" else str(value)


@cache
def count_parameters(towers: Any) -> int:
    """Number of parameters of a `jaxalign.models.TwoTowersConfig`, from shapes alone.

    The blocks of a tower are all alike: one is traced and counted as many times as there are, for tracing
    every block of every known model takes half a minute.
    """
    from jaxalign.weights.tensors import expected_shapes

    depths = {name: getattr(getattr(towers, name), "depth", None) for name in ("image", "text")}
    shallow = {name: replace(getattr(towers, name), depth=1) for name, depth in depths.items() if depth}
    blocks = {"img": depths["image"] or 1, "txt": depths["text"] or 1}
    return sum(
        math.prod(shape) * (blocks[path.partition("/")[0]] if "/encoderblock_0/" in path else 1)
        for path, shape in expected_shapes(replace(towers, **shallow)).items()
    )


def format_band(band: tuple[int, int] | None) -> str:
    """(k_top, k_bottom) as the lists show it; empty for none."""
    return f"{band[0]}, {band[1]}" if band else ""
