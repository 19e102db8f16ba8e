"""`jaxalign fetch`: a model for use without network."""

from dataclasses import dataclass
from typing import Annotated

import tyro

from jaxalign.eval.terminal import say

from .options import JsonFile, option
from .printing import write_json


@dataclass(frozen=True)
class Fetch:
    """Download a model, for use without network from then on.

    It goes into Hugging Face's cache ($HF_HOME), from where every command takes it, also offline. Its size
    and licence are said first, and at the end it is loaded once, as a check. What is there already is not
    downloaded again; what was interrupted goes on. `jaxalign models` lists the names. Without --model,
    `jaxalign search` takes the first that is there of clip-vit-base-patch16, other models with a band of the
    paper, other models with texts, and the rest, in the order of that list.

    Examples:
      jaxalign fetch clip-vit-base-patch16
      jaxalign fetch google/siglip2-base-patch16-224
    """

    repository: Annotated[
        str,
        tyro.conf.Positional,
        option("A name of `jaxalign models`, or a repository of the hub, OWNER/NAME.", "NAME"),
    ]
    json: JsonFile = None

    def run(self) -> None:
        import jaxalign
        from jaxalign.errors import JaxalignError
        from jaxalign.specs import MODELS
        from jaxalign.weights.availability import find_model
        from jaxalign.weights.checkpoint import find_repository
        from jaxalign.weights.hub import fetch_checkpoint

        from .models import count_parameters

        if self.repository in MODELS and find_model(MODELS[self.repository]).state == "embedded":
            raise JaxalignError(f"{self.repository} is a part of jaxalign; there is nothing to fetch")
        known, repository, revision = find_repository(self.repository)
        fetched: dict[str, int] = {}

        def tell(file: str, size: int) -> None:
            fetched[file] = size
            say(f"  {file}, {describe_size(size)}")

        say(f"{repository}, licence {known.licence if known else 'as on its page'}")
        folder = fetch_checkpoint(repository, revision, tell)
        spec = jaxalign.load(self.repository).spec
        facts = {
            "name": spec.name,
            "repository": repository,
            "revision": folder.name,
            "licence": spec.licence,
            "parameters": count_parameters(spec.towers),
            "folder": str(folder),
            "bytes": sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()),
            "downloaded": fetched,
        }
        write_json(self.json, facts)
        state = "has been fetched" if fetched else "was there already"
        say(f"{spec.name} {state}: {describe_size(facts['bytes'])} in {folder}")
        say(f"jaxalign search FOLDER --query IMAGE --model {self.repository}")


def describe_size(count: int) -> str:
    """Bytes in the unit that suits them."""
    return f"{count / 1e6:,.0f} MB" if count >= 1e7 else f"{count / 1e3:,.1f} kB"
