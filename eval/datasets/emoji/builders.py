"""TFDS builders of the data sets `emoji` and `emoji-scenes`; preparing needs no network, no TensorFlow."""

import hashlib
import io
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from ..builder import LocalBuilder, LocalInfo
from . import scenes, sprites

ORIGIN = (
    "The drawings come from seven public emoji sets, the names from Unicode, the keywords from CLDR; "
    "eval/datasets/emoji/ATTRIBUTION.md has their authors and licences. The splits share no name. Some sets "
    "draw related names alike (families in twemoji, man and person in openmoji): nine drawings are in both."
)
LICENCE = "Apache-2.0 (noto, noto-v1), MIT (fluent), CC-BY-4.0 (twemoji, emojione), CC-BY-SA-4.0 (openmoji)"
Composed = tuple[np.ndarray, dict[str, str], list[str]]


def encode_png(image: np.ndarray) -> bytes:
    """The PNG file of `image`, uint8 [h, w, 3]."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG", compress_level=1)  # the default, 6, is much slower
    return file.getvalue()


def image_rng(file_name: str, version: str) -> np.random.Generator:
    """The random generator of an image, seeded from its file name and the version and from nothing else."""
    digest = hashlib.sha256(f"{version} {file_name}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "big"))


class EmojiImages(LocalBuilder, tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """What the two data sets share: an example for each emoji and drawing style, split by emoji."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First release."}  # noqa: RUF012 (declared so by TFDS)
    SUMMARY = ""

    def _info(self) -> tfds.core.DatasetInfo:
        return LocalInfo(
            builder=self,
            description=f"{self.SUMMARY} {ORIGIN}",
            features=tfds.features.FeaturesDict(self._features()),
            supervised_keys=("image", "emoji"),
            homepage="https://www.unicode.org/emoji/charts/full-emoji-list.html",
            license=LICENCE,
            disable_shuffling=True,  # examples stay in the order of the sprites
        )

    def _features(self) -> dict[str, Any]:
        emoji = sprites.read_emoji()
        return {
            "image": tfds.features.Image(shape=(scenes.SIDE, scenes.SIDE, 3), encoding_format="png"),
            "emoji": tfds.features.ClassLabel(names=[e.name for e in emoji]),  # of both splits
            "group": tfds.features.ClassLabel(names=list(dict.fromkeys(e.group for e in emoji))),
            "subgroup": tfds.features.ClassLabel(names=list(dict.fromkeys(e.subgroup for e in emoji))),
            "style": tfds.features.ClassLabel(names=list(sprites.STYLES)),
            "captions": tfds.features.Sequence(tfds.features.Text()),
            "name": tfds.features.Text(),
            "file_name": tfds.features.Text(),
            "index": np.int64,
        }

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Iterator]:
        return {split: self._generate_examples(split) for split in ("train", "test")}

    def _generate_examples(self, split: str) -> Iterator[tuple[int, dict[str, Any]]]:
        for index, (emoji, style, sprite) in enumerate(sprites.read_sprites(split)):
            file_name = f"{style}/{emoji.name.replace(' ', '-')}.png"
            image, context, said = self._compose(emoji, style, sprite, file_name)
            example = {
                "image": encode_png(image),
                "emoji": emoji.name,
                "group": emoji.group,
                "subgroup": emoji.subgroup,
                "style": style,
                "captions": said,
                "name": emoji.name,
                "file_name": file_name,
                "index": index,
            }
            yield index, example | context
            if self.on_example is not None:
                self.on_example()

    def _compose(self, emoji: sprites.Emoji, style: str, sprite: Image.Image, file_name: str) -> Composed:
        """The image uint8 [SIDE, SIDE, 3], the labels of its context, and its captions."""
        raise NotImplementedError


class Emoji(EmojiImages):
    """The emoji on white, with several captions each: the name, then pairs of CLDR keywords."""

    SUMMARY = "Emoji in seven drawing styles on white; captions from their Unicode names and CLDR keywords."

    def _compose(self, emoji: sprites.Emoji, style: str, sprite: Image.Image, file_name: str) -> Composed:
        return scenes.compose_plain(sprite), {}, scenes.keyword_captions(emoji.name, emoji.keywords)


class EmojiScenes(EmojiImages):
    """The emoji in scenes, with labels of the context and one caption that speaks of some of it."""

    SUMMARY = (
        "Emoji in seven drawing styles, each on a coloured, textured background at a size and a place; "
        "captions as on the web: the name nearly always, style, size, colour and place sometimes."
    )

    def _features(self) -> dict[str, Any]:
        names = {"background": scenes.BACKGROUNDS, "texture": scenes.TEXTURES, "size": scenes.SIZES}
        names["place"] = scenes.PLACES
        return super()._features() | {k: tfds.features.ClassLabel(names=list(v)) for k, v in names.items()}

    def _compose(self, emoji: sprites.Emoji, style: str, sprite: Image.Image, file_name: str) -> Composed:
        rng = image_rng(file_name, str(self.VERSION))
        context = scenes.draw_context(rng)
        image = scenes.compose_scene(sprite, context, rng)
        said = scenes.draw_caption(emoji.name, emoji.keywords, style, context, rng)
        return image, asdict(context), [said]
