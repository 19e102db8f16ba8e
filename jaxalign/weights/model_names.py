"""What is said of a name that leads `load` to no model: first the fact, then what is near."""

import difflib
import re
from pathlib import Path

from jaxalign.errors import JaxalignError
from jaxalign.specs import MODELS, find_spec

_ADDRESS = re.compile(r"(?:hf-hub:|hf_hub:|hf://|https?://(?:www\.)?(?:huggingface\.co|hf\.co)/(?:models/)?)")
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")


def nothing_there(name: str) -> JaxalignError:
    """The error for a path that does not exist and is no known model's name, with names near to it."""
    near = _near(name, [*_beside(name), *_known()])
    is_path = "/" in name
    return JaxalignError(
        f"there is no file or folder {name}"
        + ("" if is_path else f"; unknown model {name!r}")
        + (f"; did you mean {near}?" if near else "")
        + " (`jaxalign models` lists what is known)"
    )


def no_such_file(name: str) -> JaxalignError:
    """The error for what ends as weights do, and so is looked for nowhere else."""
    near = _near(name, _beside(name))
    try:
        model = find_spec(Path(name).name).name
    except JaxalignError:
        hint = "expected a path, or a name that `jaxalign models` lists"
    else:
        hint = f"the checkpoint that is published under this name is {model!r}"
    return JaxalignError(f"there is no file {name}; " + (f"did you mean {near}? " if near else "") + hint)


def check_repository_name(name: str) -> None:
    """Raises JaxalignError for an address, or a repository with a revision, in place of the repository."""
    found = _REPOSITORY.match(_ADDRESS.sub("", name, count=1))
    if _ADDRESS.match(name) and found:
        raise JaxalignError(
            f"{name} is an address; expected the repository alone, {found[0]}, of which the commit is taken"
            " that its record pins, or the latest"
        )
    if "://" in name:
        raise JaxalignError(
            f"{name} is an address; expected a path, owner/name of a hub repository, or a name that"
            " `jaxalign models` lists: download the file and load its path"
        )
    repository, at, revision = name.partition("@")
    if at and _REPOSITORY.fullmatch(repository):
        raise JaxalignError(
            f"{name} has a revision; expected the repository alone, {repository}. For that commit run"
            f" `hf download {repository} --revision {revision} --local-dir DIR` and load DIR"
        )


def _beside(name: str) -> list[str]:
    """What lies in the folder that `name` would be in, as paths from the same place."""
    try:
        parent = Path(name).expanduser().parent
        return [str(parent / path.name) for path in sorted(parent.iterdir()) if not path.name.startswith(".")]
    except (OSError, ValueError, RuntimeError):  # no such folder or home, or a name that no file can have
        return []


def _known() -> list[str]:
    return [name for spec in MODELS.values() for name in (spec.name, *spec.hub_ids)]


def _near(name: str, others: list[str]) -> str:
    found = difflib.get_close_matches(name, list(dict.fromkeys(others)), n=3, cutoff=0.7)
    return " or ".join(map(repr, found))
