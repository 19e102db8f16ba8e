"""Checkpoints on the Hugging Face hub: the files of one that `load` needs, from the cache or the network."""

from collections.abc import Callable
from pathlib import Path

from jaxalign.errors import JaxalignError
from jaxalign.inputs.tokenization import TOKENIZER_FILES
from jaxalign.local_files import read_json

CONFIG, OPEN_CLIP_CONFIG = "config.json", "open_clip_config.json"
PREPROCESSOR, PROCESSOR = "preprocessor_config.json", "processor_config.json"
# what transformers says about a vocabulary beside the file that holds it, and the older form of CLIP's
TOKENIZER_CONFIG, SPECIAL_TOKENS, ADDED_TOKENS = (
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
)
CLIP_WORDS, CLIP_MERGES = "vocab.json", "merges.txt"
ADAPTER = "adapter_config.json"  # peft's, beside a model or in its place; refused by whoever reads the folder
CONFIGURATIONS = (PREPROCESSOR, PROCESSOR, TOKENIZER_CONFIG, SPECIAL_TOKENS, ADDED_TOKENS, ADAPTER)
INDEX = ".index.json"
# the preferred one first: files without pickle before those with
OPEN_CLIP_WEIGHTS = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
)
WEIGHTS = (
    "model.safetensors",
    f"model.safetensors{INDEX}",
    "pytorch_model.bin",
    f"pytorch_model.bin{INDEX}",
)


def fetch_checkpoint(
    repository: str, revision: str | None, tell: Callable[[str, int], None] | None = None
) -> Path:
    """The folder with configuration, weights (one form of them) and tokenizer files of `repository`.

    What is cached is not asked for again, and without network the cache alone is used.

    Args:
      tell: is told each file that is about to be downloaded, and its bytes.

    Raises:
      JaxalignError: a repository that does not exist, is gated, or holds no weights; or no network and
        nothing cached: then the message says which files to put where.
    """
    fetch = _Fetch(repository, revision, tell)
    is_open_clip = fetch(OPEN_CLIP_CONFIG) is not None
    if not is_open_clip:
        fetch(CONFIG)
    names = OPEN_CLIP_WEIGHTS + WEIGHTS if is_open_clip else WEIGHTS + OPEN_CLIP_WEIGHTS
    weights = next((path for path in map(fetch, names) if path), None)
    if weights is None:
        raise fetch.nothing(names)
    if weights.name.endswith(INDEX):
        _fetch_shards(weights, fetch)
    found = [name for name in (*CONFIGURATIONS, *TOKENIZER_FILES) if fetch(name)]
    if not set(found) & set(TOKENIZER_FILES):
        fetch(CLIP_WORDS)
        fetch(CLIP_MERGES)
    return weights.parent


def find_cached(repository: str, name: str) -> Path | None:
    """A file of `repository` in the hub's cache; None where it is not there. The network is not asked."""
    import huggingface_hub as hub

    cached = hub.try_to_load_from_cache(repository, name)
    return Path(cached) if isinstance(cached, str) else None


def _fetch_shards(index: Path, fetch: Callable[[str], Path | None]) -> None:
    said = read_json(index)
    places = said.get("weight_map") if isinstance(said, dict) else None
    if not isinstance(places, dict) or not all(isinstance(file, str) for file in places.values()):
        raise JaxalignError(
            f"{index} is damaged: no weight_map from names to files; delete it and load again"
        )
    missing = [file for file in sorted(set(places.values())) if fetch(file) is None]
    if missing:
        raise JaxalignError(f"{index} names {', '.join(missing[:5]):.400}, which cannot be fetched")


class _Fetch:
    """Fetches files of one revision; once the network has failed, from the cache alone."""

    def __init__(self, repository: str, revision: str | None, tell: Callable[[str, int], None] | None = None):
        self.repository, self.revision, self._tell = repository, revision, tell
        self.is_offline: bool | None = None  # not tried yet

    def __call__(self, name: str) -> Path | None:
        """The file in the cache; None where the repository has none of this name, or offline the cache."""
        import huggingface_hub as hub
        from huggingface_hub import errors

        try:
            cached = hub.try_to_load_from_cache(self.repository, name, revision=self.revision)
            if cached is not None and (self.revision is not None or self.is_offline):
                return Path(cached) if isinstance(cached, str) else None  # a pinned revision never changes
            if self.is_offline is None:
                self.is_offline = not self._is_reachable(name)
            if self._tell is not None and not cached and not self.is_offline:
                url = hub.hf_hub_url(self.repository, name, revision=self.revision)
                self._tell(name, hub.get_hf_file_metadata(url).size or 0)
            options = {"revision": self.revision, "local_files_only": self.is_offline}
            return Path(hub.hf_hub_download(self.repository, name, **options))
        except errors.EntryNotFoundError:  # also where nothing is cached
            return None
        except errors.GatedRepoError as error:
            raise JaxalignError(
                f"{self.repository} is gated; accept its licence on https://huggingface.co/{self.repository}"
                " and run `hf auth login`"
            ) from error
        except (
            errors.RepositoryNotFoundError,
            errors.RevisionNotFoundError,
            errors.HFValidationError,
        ) as error:
            at = f" of revision {self.revision}" if self.revision else ""
            raise JaxalignError(f"there is no {self.repository!r}{at} on the hub") from error
        except OSError as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise JaxalignError(f"cannot fetch {name} of {self.repository}: {reason:.200}") from error

    def _is_reachable(self, name: str) -> bool:
        """Asked once and without the retries of `hf_hub_download`, which take half a minute offline."""
        import huggingface_hub as hub

        # the client's own base class: its failures to connect are no OSError
        unreachable = (OSError, *hub.errors.HfHubHTTPError.__bases__)
        try:
            hub.get_hf_file_metadata(hub.hf_hub_url(self.repository, name, revision=self.revision))
        except hub.errors.EntryNotFoundError:
            return True
        except hub.errors.HfHubHTTPError as error:  # it answered; server errors are like no answer
            return error.response is None or error.response.status_code < 500
        except unreachable:
            return False
        return True

    def nothing(self, names: tuple[str, ...]) -> JaxalignError:
        """The error for a repository of which no weights were found."""
        if not self.is_offline:
            return JaxalignError(f"{self.repository} holds none of {', '.join(names)}; load another one")
        at = f" --revision {self.revision}" if self.revision else ""
        return JaxalignError(
            f"{self.repository} is not cached and the hub cannot be reached; where there is a network, run"
            f" `hf download {self.repository}{at}` and copy the cache ($HF_HOME), or put {CONFIG} and"
            f" {names[0]} (for open_clip {OPEN_CLIP_CONFIG} and {OPEN_CLIP_WEIGHTS[0]}) of"
            f" https://huggingface.co/{self.repository} into a folder and load that folder"
        )
