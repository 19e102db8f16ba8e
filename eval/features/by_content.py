"""Features of one's own images, kept by what each image is: one index for all folders and all commands.

The index of a model is a row of stores, its parts. Each holds images that no earlier one had, under digests
of their files' content, and none is ever changed, apart from being finished. A part is called after what it
holds: commands that run at the same time make parts of their own, or one is told that the other is at the
same part.
"""

import hashlib
import re
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import NoReturn, Unpack

import numpy as np

from jaxalign.dual_encoder import DualEncoder
from jaxalign.errors import JaxalignError
from jaxalign.eval.datasets.images import FileChangedError, FolderImages
from jaxalign.eval.processes import agree

from .embed import Computing, check_computing, embed_images, open_image, unreadable_image
from .key import FeatureKey, make_key
from .store import CHUNK, Features, FeatureStore, Place, list_names, store_url

_PART = re.compile(rb"([0-9a-f]{16})/store\.json")
_THREADS = 8  # that look at parts, or try images again


@dataclass(frozen=True, eq=False)
class Gathered:
    """Features that are in memory; to read from, the same as a `FeatureStore`.

    Attributes:
      values: `[rows, width]`, NaN where an image was left out.
      ids: of the images.
      url: of the index that they come from.
    """

    values: np.ndarray
    ids: tuple[str, ...]
    url: str = ""
    chunk: int = CHUNK

    @property
    def rows(self) -> int:
        return len(self.values)

    @property
    def width(self) -> int:
        return self.values.shape[1]

    @property
    def chunks(self) -> int:
        return -(-self.rows // self.chunk)

    def read_chunk(self, chunk: int) -> np.ndarray:
        return self.values[chunk * self.chunk : (chunk + 1) * self.chunk]

    def read(self) -> Features:
        return Features.of(self.values, self.ids)


def gather(model: DualEncoder, images: FolderImages, origin: str, **computing: Unpack[Computing]) -> Gathered:
    """Features of all images out of the index; those that it lacks are computed first.

    Args:
      origin: what the images are of, for messages.
      computing: as for `image_store`.

    Raises:
      JaxalignError: an unreadable image, one that changes while it is read, or a store that cannot be used.
    """
    check_computing(**computing)
    place, leaves_out = computing.get("store"), computing.get("unreadable") == "leave-out"
    progress = computing.get("progress", lambda count: None)
    names, contents = images.ids, images.contents
    if "" in contents and not leaves_out:
        _explain(images, contents.index(""))
    first: dict[str, int] = {}
    for row, content in enumerate(contents):
        if content:
            first.setdefault(content, row)
    index = _Index(index_key(model), place, first.keys(), leaves_out)
    plans = index.read()
    agree(f"the images of {origin}", lambda: {"those to compute": [part_name(ids) for ids, _ in plans]})
    progress(len(images) - sum(count for _, count in plans))
    for ids, _ in plans:
        rows, told = [first[content] for content in ids], iter([lambda count: None])
        options = {**computing, "progress": lambda count, told=told: next(told, progress)(count)}
        part = FeatureStore.open(place, index.key, ids, {}, model.config.image.width, part=part_name(ids))
        embed_images(model, images[rows], part, names=[names[row] for row in rows], **options)
        if index.take(part):
            part.read()  # raises
    lost = np.full(model.config.image.width, np.nan, np.float32)
    values = np.stack([index.found.get(content, lost) for content in contents])
    again = _readable_now(model, images, values) if leaves_out else []
    if again:
        computing = {**computing, "unreadable": "fail", "progress": lambda count: None}
        values[again] = gather(model, images[again], origin, **computing).values
    return Gathered(values, names, store_url(place, index.key))


def _readable_now(model: DualEncoder, images: FolderImages, values: np.ndarray) -> list[int]:
    """Which of the images that the index has as unreadable can be read.

    It is not the file alone that decides: what was no image for this program is one when a decoder has been
    installed, as an iPhone's photo that is called .jpg and is HEIC.
    """

    def is_readable(row: int) -> bool:
        try:
            with open_image(images, row) as image:
                return len(model.image_processor([image])) == 1
        except JaxalignError:
            return False

    contents = images.contents
    lost = [int(row) for row in np.flatnonzero(np.isnan(values).any(axis=1)) if contents[row]]
    with ThreadPoolExecutor(_THREADS) as pool:
        return [row for row, readable in zip(lost, pool.map(is_readable, lost), strict=True) if readable]


@dataclass
class _Index:
    """What an index has of the images that are `wanted`: `found`, by content, NaN where one was left out."""

    key: FeatureKey
    place: Place
    wanted: Collection[str]
    leaves_out: bool
    found: dict[str, np.ndarray] = field(default_factory=dict)

    def read(self) -> list[tuple[tuple[str, ...], int]]:
        """Take what is there.

        Returns:
          What is to be computed: the images of parts that were not finished, if all of these are wanted, and
          of a new one; beside each, how many of them are not there.
        """
        names = filter(None, map(_PART.fullmatch, list_names(store_url(self.place, self.key))))
        find = lambda name: FeatureStore.find(self.place, self.key, name)
        with ThreadPoolExecutor(_THREADS) as pool:
            parts = list(filter(None, pool.map(find, sorted(name[1].decode() for name in names))))
        lacking = [self.take(part) for part in parts]
        new = dict.fromkeys(content for content in self.wanted if content not in self.found)
        plans = []
        for part, absent in zip(parts, lacking, strict=True):
            if not new.keys().isdisjoint(absent) and all(content in self.wanted for content in part.ids):
                plans.append((part.ids, len(absent)))
                new = dict.fromkeys(content for content in new if content not in absent)
        return [*plans, (tuple(new), len(new))] if new else plans

    def take(self, part: FeatureStore) -> set[str]:
        """Take what a part has of the wanted images; gives all images that it lacks, as far as was looked."""
        absent = set(part.absent())
        chunks: dict[int, list[int]] = {}
        for row, content in enumerate(part.ids):
            if content in self.wanted and np.isnan(self.found.get(content, np.nan)).any():
                chunks.setdefault(row // part.chunk, []).append(row)
        for chunk in chunks.keys() - absent:
            try:
                values = part.read_chunk(chunk)
            except JaxalignError:  # damaged
                absent.add(chunk)
                continue
            for row in chunks[chunk]:
                value = values[row % part.chunk]
                if self.leaves_out or not np.isnan(value).any():
                    self.found[part.ids[row]] = value
        return {part.ids[row] for chunk in absent for row in part.rows_of(chunk)}


def index_key(model: DualEncoder) -> FeatureKey:
    """Of the index of a model."""
    return make_key(model, "images", "1", "index", "image")


def part_name(ids: Sequence[str]) -> str:
    """Of the part of an index that holds these images."""
    return hashlib.sha256("\0".join(ids).encode()).hexdigest()[:16]


def _explain(images: FolderImages, row: int) -> NoReturn:
    """Raise what is wrong with an image whose file cannot be read."""
    try:
        images[row]
    except JaxalignError as error:
        raise unreadable_image(images.ids[row], error) from error
    raise FileChangedError(f"{images.ids[row]} could not be read at first; run the same command again")
