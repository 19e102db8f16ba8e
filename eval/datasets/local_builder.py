"""What our TFDS builders share: a copy is checked before it counts, and TFDS's bucket has nothing of it."""

from collections.abc import Callable, Mapping

import tensorflow_datasets as tfds

from jaxalign.errors import JaxalignError


class LocalInfo(tfds.core.DatasetInfo):
    """The facts of a data set that is not in TFDS's own bucket."""

    def initialize_from_bucket(self) -> None:
        """Nothing: TFDS would make a temporary folder to copy facts to, and leave it behind."""


class LocalBuilder(tfds.core.DatasetBuilder, skip_registration=True):
    """Comes before TFDS's kind of builder among the bases.

    Attributes:
      on_example: called after each example while preparing, for a progress bar.
      expected: examples of each split that is written; others are an error, and nothing is kept.
    """

    on_example: Callable[[], object] | None = None
    expected: Mapping[str, int] | None = None

    def _download_and_prepare(
        self,
        dl_manager: tfds.download.DownloadManager,
        download_config: tfds.download.DownloadConfig | None = None,
    ) -> None:
        super()._download_and_prepare(dl_manager, download_config)  # pyright: ignore[reportAbstractUsage]
        for split, info in self.info.splits.items():  # in the folder that is moved in place when this returns
            expected = (self.expected or {}).get(split, info.num_examples)
            if info.num_examples != expected:
                raise JaxalignError(
                    f"{self.name}: {info.num_examples:,} examples of {split} were written instead of"
                    f" {expected:,}; nothing was kept, run again"
                )
