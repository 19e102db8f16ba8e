"""Checkpoints of the hub: which files are fetched, of which revision, and what is said without network."""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import huggingface_hub
import numpy as np
import pytest
from huggingface_hub import errors
from oracles_conversion import TINY_CLIP_CONFIG, random_parameters, source_tensors, tiny
from safetensors.numpy import save_file

import jaxalign as ja
from jaxalign.conversion.formats import FORMATS
from jaxalign.errors import JaxalignError
from jaxalign.eval import cli
from jaxalign.specs import find_spec
from jaxalign.weights import availability, checkpoint

NAME = "openai/clip-vit-base-patch16"
REVISION = find_spec(NAME).revision
LATEST = "5" * 40  # the commit that a repository's main branch is at


class Hub:
    """Repositories in memory behind the functions of huggingface_hub, and what was asked of them."""

    def __init__(self, folder: Path, files: dict[str, bytes]):
        self.folder, self.files, self.asked = folder, files, []
        self.reachable = True

    def answer(self, name: str) -> None:
        if not self.reachable:
            raise errors.HfHubHTTPError.__bases__[0]("no network")
        if name not in self.files:
            raise errors.EntryNotFoundError(f"404 {name}")

    def hf_hub_url(self, repository, name, revision=None):
        return name

    def get_hf_file_metadata(self, url):
        self.answer(url)
        return SimpleNamespace(size=len(self.files[url]))

    def try_to_load_from_cache(self, repository, name, revision=None):
        path = self.path(repository, name, revision)
        return str(path) if path.exists() else None

    def path(self, repository, name, revision):
        folder = f"models--{repository.replace('/', '--')}"
        return self.folder / folder / "snapshots" / (revision or LATEST) / name

    def hf_hub_download(self, repository, name, *, revision=None, local_files_only=False):
        path = self.path(repository, name, revision)
        if local_files_only:
            if not path.exists():
                raise errors.LocalEntryNotFoundError("not cached")
            return str(path)
        self.asked.append((repository, name, revision))
        self.answer(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(self.files[name])
        return str(path)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub with a small CLIP of transformers, whose known sizes are replaced by small ones."""
    spec = tiny("clip-vit-base-patch16")
    table = next(t for t in FORMATS if t.name == "transformers CLIPModel")
    tensors = source_tensors(table, random_parameters(spec.towers))
    save_file({k: np.array(v, order="C") for k, v in tensors.items()}, tmp_path / "model.safetensors")
    hub = Hub(
        tmp_path / "cache",
        {
            "config.json": json.dumps(TINY_CLIP_CONFIG).encode(),
            "model.safetensors": (tmp_path / "model.safetensors").read_bytes(),
            "pytorch_model.bin": b"never asked for",
        },
    )
    for name in ("hf_hub_url", "get_hf_file_metadata", "try_to_load_from_cache", "hf_hub_download"):
        monkeypatch.setattr(huggingface_hub, name, getattr(hub, name))
    monkeypatch.setattr(checkpoint, "find_spec", lambda name: find_spec(name) and spec)
    return hub


@pytest.mark.parametrize("name", [NAME, "OpenAI/CLIP-ViT-base-patch16", "clip-vit-base-patch16", "ViT-B/16"])
def test_only_what_is_needed_of_the_pinned_revision(hub, name):
    model = ja.load(name)
    assert model.name == "tiny-clip-vit-base-patch16"
    fetched = [file for _, file, _ in hub.asked]
    assert {(repository, revision) for repository, _, revision in hub.asked} == {(NAME, REVISION)}
    assert fetched[:3] == ["open_clip_config.json", "config.json", "model.safetensors"]
    assert "pytorch_model.bin" not in fetched


@pytest.mark.parametrize(
    ("repository", "commit"),
    [(NAME, REVISION), ("timm/vit_base_patch16_clip_224.openai", LATEST), ("some/one", LATEST)],
)
def test_facts_say_where_it_is_from(hub, repository, commit, monkeypatch):
    """Of another repository than the pinned one the commit is known once it is loaded."""
    if repository == "some/one":
        monkeypatch.setattr(checkpoint, "find_spec", find_spec)
    spec = ja.load(repository).spec
    assert (spec.source, spec.revision) == (repository, commit)
    assert spec.name == ("some/one" if repository == "some/one" else "tiny-clip-vit-base-patch16")


def test_a_repository_with_an_adapter_is_refused(hub):
    """transformers adds it to the model."""
    hub.files["adapter_config.json"] = b"{}"
    with pytest.raises(JaxalignError, match=r"has an adapter_config\.json"):
        ja.load(NAME)


def test_what_is_cached_needs_no_network(hub):
    ja.load(NAME)
    hub.asked.clear()
    hub.reachable = False
    assert ja.load(NAME).name == "tiny-clip-vit-base-patch16"
    assert not hub.asked


def test_no_network_and_nothing_cached(hub):
    hub.reachable = False
    with pytest.raises(JaxalignError) as caught:
        ja.load(NAME)
    message = str(caught.value)
    assert "\n" not in message
    for part in (
        f"{NAME} is not cached and the hub cannot be reached",
        f"hf download {NAME} --revision {REVISION}",
        "put config.json and model.safetensors",
        "into a folder and load that folder",
    ):
        assert part in message


def test_shards_of_an_index(hub):
    whole = hub.files.pop("model.safetensors")
    index = {"weight_map": dict.fromkeys(read_names(whole), "part-1.safetensors")}
    hub.files |= {
        "part-1.safetensors": whole,
        "model.safetensors.index.json": json.dumps(index).encode(),
    }
    assert ja.load(NAME).name == "tiny-clip-vit-base-patch16"
    hub.files["model.safetensors.index.json"] = b"{}"
    hub.path(NAME, "model.safetensors.index.json", REVISION).unlink()
    with pytest.raises(JaxalignError, match=r"index\.json is damaged"):
        ja.load(NAME)


def read_names(content: bytes) -> list[str]:
    header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
    return [name for name in header if name != "__metadata__"]


def test_a_repository_without_weights(hub):
    hub.files = {"config.json": b"{}"}
    with pytest.raises(JaxalignError, match=r"holds none of model\.safetensors"):
        ja.load(NAME)


def test_a_repository_that_does_not_exist_or_is_gated(hub, monkeypatch):
    response = SimpleNamespace(status_code=404, headers={}, request=None)

    def refuse(kind):
        def download(*args, **options):
            raise kind("404", response=response)

        return download

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", refuse(errors.RepositoryNotFoundError))
    with pytest.raises(
        JaxalignError, match=r"no file or folder some/one .* there is no 'some/one' on the hub"
    ):
        ja.load("some/one", spec="clip-vit-base-patch16")
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", refuse(errors.GatedRepoError))
    with pytest.raises(JaxalignError, match=r"is gated; accept its licence"):
        ja.load(NAME)


@pytest.mark.parametrize("name", ["my models/clip b16", "photos/x..y"])
def test_a_path_that_is_no_name_of_a_repository(name):
    with pytest.raises(JaxalignError, match=f"^there is no file or folder {name}"):
        ja.load(name)


@pytest.mark.parametrize("name", ["models/gr\u00f6\u00dfe.npz", "clip/ViT-B-61.pt", "./m.safetensors"])
def test_a_file_that_is_not_there_is_not_looked_for_on_the_hub(name):
    with pytest.raises(JaxalignError, match=f"there is no file {re.escape(name)}"):
        ja.load(name)


def test_a_model_that_is_not_on_the_hub():
    message = (
        r"slip-vit-base-patch16 is not on the hub; download https://dl.fbaipublicfiles.com/slip/.* spec="
    )
    with pytest.raises(JaxalignError, match=message):
        ja.load("slip-vit-base-patch16")


def test_fetch_says_what_it_downloads_and_is_done_once(hub, capsys):
    """Afterwards the model is there without network, and search takes it where none is named."""
    assert cli.main(["fetch", NAME, "--json", str(hub.folder.parent / "f.json")]) == 0
    lines = capsys.readouterr().out.splitlines()
    size = len(hub.files["model.safetensors"])
    assert lines[0] == f"{NAME}, licence MIT"
    assert f"  model.safetensors, {size / 1e3:,.1f} kB" in lines
    assert "pytorch_model.bin" not in "".join(lines)
    folder = hub.path(NAME, "config.json", REVISION).parent
    assert lines[-2].endswith(f"in {folder}")
    said = json.loads((hub.folder.parent / "f.json").read_text())
    assert (said["revision"], said["downloaded"]["model.safetensors"]) == (REVISION, size)
    assert said["bytes"] == sum(len(hub.files[name]) for name in said["downloaded"])

    hub.reachable = False
    hub.asked.clear()
    assert cli.main(["fetch", NAME]) == 0
    assert "was there already" in capsys.readouterr().out
    assert not hub.asked
    assert availability.first_cached().name == "clip-vit-base-patch16"


def test_what_cannot_be_fetched(hub, capsys):
    hub.reachable = False
    for name, message in {
        "emoji-clip": "emoji-clip is a part of jaxalign; there is nothing to fetch",
        "clip-vit-base-patch": "did you mean",
        NAME: "is not cached and the hub cannot be reached",
    }.items():
        assert cli.main(["fetch", name]) == 1
        (line,) = capsys.readouterr().err.splitlines()
        assert message in line
