"""One engine for every format: a rule format read against the tensors that are there and those needed.

It is strict. A source tensor that no rule uses and no name in `ignored` covers, a target that stays unfilled
or is filled twice, a source that is used twice, a shape or dtype that differs: all of them are in one
message, before the first tensor is read. Tensors are then read, a part at a time, into their final arrays.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches

import jax
import numpy as np

from jaxalign.errors import JaxalignError
from jaxalign.specs import MODELS, ModelSpec
from jaxalign.weights.stored import (
    Shape,
    StoredTensor,
    aligned_zeros,
    fill,
    largest_first,
    on_all_cores,
    taken_over,
)
from jaxalign.weights.tensors import STORED_DTYPES

from .transforms import Transform, must_be_zero, zeros

_MENTIONED = 10  # tensors of each kind that one message names


@dataclass(frozen=True)
class Rule:
    """One line of a format.

    Attributes:
      source: name in the file; `{i}` stands for a number, `|` separates the names of several generations.
        Empty where the targets are filled with zeros.
      targets: paths of our parameters with the same `{i}`. A rule is in force where the model has them; one
        without targets, where the file has a source that no rule before it used.
      added: the source is added to what another rule puts there.
    """

    source: str
    targets: tuple[str, ...]
    transform: Transform
    added: bool = False


@dataclass(frozen=True)
class Format:
    """How tensors are called in the files of one library, and which of our parameters they fill.

    Attributes:
      name: what records of `jaxalign.specs` whose weights come in it have among their `formats`.
      telling: names that every file of this format has, and `never`, names that none has; how it is
        recognised.
      settings: records of other towers whose settings such files may have as well.
      one_preprocessing: whether all files are of models that take images prepared in one way, which is the
        records'; otherwise a configuration, or the user, has to say how.
      libraries: those whose checkpoints are written in it, `jaxalign.conversion.libraries.LIBRARIES`.
      ignored: regular expressions of names that are left out on purpose.
    """

    name: str
    rules: tuple[Rule, ...]
    telling: tuple[str, ...]
    never: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    one_preprocessing: bool = False
    libraries: tuple[str, ...] = ()
    ignored: tuple[str, ...] = ()

    @property
    def models(self) -> list[ModelSpec]:
        """The known models whose weights come in this format."""
        return [spec for spec in MODELS.values() if self.name in spec.formats]

    def recognises(self, names: Iterable[str]) -> bool:
        names = set(names)
        return names.issuperset(self.telling) and not names.intersection(self.never)


@dataclass(frozen=True)
class Step:
    """One source tensor, its name empty where there is none, and what it fills."""

    source: str
    targets: tuple[str, ...]
    transform: Transform
    added: bool


def convert(
    format: Format, found: Mapping[str, StoredTensor], wanted: Mapping[str, Shape], where: str
) -> dict[str, jax.Array]:
    """Our parameters, float32, by path.

    Args:
      found: the tensors of the file.
      wanted: the shape of every parameter of the model, `jaxalign.weights.tensors.expected_shapes`.
      where: the file, for messages.

    Raises:
      JaxalignError: everything that does not fit, in one message; or a damaged tensor.
    """
    steps = plan(format, found, wanted, where)
    out = {path: aligned_zeros(shape) for path, shape in wanted.items()}

    def read(step: Step) -> None:
        if step.transform is must_be_zero and found[step.source].read().any():
            raise JaxalignError(
                f"{where}: {step.source} is not all zeros, and the model has no place for it;"
                " it is not the model that it looks like"
            )
        if views := step.transform.views([out[path] for path in step.targets]):
            fill(views, found[step.source])

    sizes = {step: sum(out[path].size for path in step.targets) for step in steps if not step.added}
    on_all_cores(read, largest_first(sizes))
    for step in steps:
        if step.added:
            target = out[step.targets[0]]
            target += found[step.source].read().astype(np.float32).reshape(target.shape)
    return taken_over(out)


def plan(
    format: Format, found: Mapping[str, StoredTensor], wanted: Mapping[str, Shape], where: str
) -> list[Step]:
    """What is read from where; raises one JaxalignError with all that does not fit. Reads nothing."""
    problems: dict[str, list[str]] = {
        "missing": [],
        "left over": [],
        "misshapen": [],
        "of a wrong dtype": [],
        "filled twice": [],
        "used twice": [],
    }
    steps: list[Step] = []
    sources: set[str] = set()
    filled: set[str] = set()
    left = set(found)
    for rule in format.rules:
        for numbers in bindings(rule, found.keys() - sources, wanted):
            step = _step(rule, numbers, found, problems)
            if not rule.added:
                problems["filled twice"] += sorted(filled.intersection(step.targets))
                filled.update(step.targets)
            if step.source in found:
                problems["used twice"] += [step.source] if step.source in sources else []
                sources.add(step.source)
                _check(step, found[step.source], wanted, problems)
            steps.append(step)
    ignored = re.compile("|".join(f"(?:{name})" for name in format.ignored) or r"(?!)")
    left = {name for name in left - sources if not found[name].is_object}
    left = sorted(name for name in left if not ignored.fullmatch(name))
    unfilled = [f"nothing for {path}" for path in sorted(wanted.keys() - filled)]
    problems["missing"] += unfilled
    near = {name: get_close_matches(name, problems["missing"], 1, 0.8) for name in left[:_MENTIONED]}
    problems["left over"] += [n + (f" (meant {near[n][0]}?)" if near.get(n) else "") for n in left]
    _raise(problems, format, where)
    return [step for step in steps if step.source in found or step.transform is zeros]


def _raise(problems: Mapping[str, list[str]], format: Format, where: str) -> None:
    said = [
        f"{len(names)} {kind}: {', '.join(names[:_MENTIONED])}{', ...' if len(names) > _MENTIONED else ''}"
        for kind, names in problems.items()
        if names
    ]
    if said:
        raise JaxalignError(f"the tensors of {where}, read as {format.name}, do not fit: {'; '.join(said)}")


def bindings(rule: Rule, unused: Iterable[str], wanted: Mapping[str, Shape]) -> list[dict[str, str]]:
    """The numbers for which `rule` is in force."""
    if not rule.targets:
        return matches(rule.source, unused)
    if rule.added:
        return [n for n in matches(rule.source, unused) if rule.targets[0].format(**n) in wanted]
    bindings = {tuple(n.items()): n for target in rule.targets for n in matches(target, wanted)}
    return list(bindings.values())


def matches(pattern: str, names: Iterable[str]) -> list[dict[str, str]]:
    """What the `{...}` of `pattern`, numbers, are in each of `names` that it matches."""
    alternatives = [re.sub(r"\\{(\w+)\\}", r"(?P<\1>[0-9]+)", re.escape(p)) for p in pattern.split("|")]
    matches = [re.fullmatch(p, name) for p in alternatives for name in names]
    return [match.groupdict() for match in matches if match]


def _step(
    rule: Rule,
    numbers: Mapping[str, str],
    found: Mapping[str, StoredTensor],
    problems: Mapping[str, list[str]],
) -> Step:
    names = [name.format(**numbers) for name in rule.source.split("|")] if rule.source else []
    there = [name for name in names if name in found and not found[name].is_object]
    there = there or [name for name in names if name in found]  # an object in the place of a tensor
    if names and not there:
        problems["missing"].append(" or ".join(names))
    if len(there) > 1:
        problems["filled twice"].append(f"{' and '.join(there)}, expected one of them")
    targets = tuple(target.format(**numbers) for target in rule.targets)
    return Step(there[0] if there else "", targets, rule.transform, rule.added)


def _check(
    step: Step, source: StoredTensor, wanted: Mapping[str, Shape], problems: Mapping[str, list[str]]
) -> None:
    if source.dtype not in STORED_DTYPES:
        problems["of a wrong dtype"].append(
            f"{step.source} is {source.dtype:.200}, expected {'/'.join(STORED_DTYPES)}"
        )
    if source.is_object:  # of no shape either
        return
    absent = [path for path in step.targets if path not in wanted]
    if absent:
        problems["misshapen"].append(f"{step.source} also fills {', '.join(absent)}, which the model has not")
    elif step.targets and not step.transform.fits(source.shape, [wanted[path] for path in step.targets]):
        expected = step.transform.source_shape([wanted[path] for path in step.targets])
        problems["misshapen"].append(f"{step.source} is {source.shape}, expected {expected}")
