"""Captions that find captions of the same emoji."""

from typing import Any

import numpy as np

import jaxalign as ja
from eval.demo.data import CaptionSet
from eval.demo.encode import Encoder, Features
from eval.demo.measure import measure_task
from eval.demo.settings import DemoSettings


def choose_text_band(encoder: Encoder, captions: CaptionSet, settings: DemoSettings) -> ja.BandSweep:
    """The search for the text band among captions of training names."""
    heads = encoder.model.projectors
    queries, labels = captions.queries, captions.labels
    pre = encoder.texts(captions.texts).pre
    grid = [k for k in settings.band_grid if k < len(ja.decompose(heads).s)]
    return ja.sweep_bands(
        heads,
        pre[queries],
        pre,
        labels[queries],
        labels,
        k_top=grid,
        k_bottom=grid,
        modality="text",
        exclude_self=queries,
    )


def measure_texts(
    model: ja.DualEncoder, captions: CaptionSet, features: Features, band: tuple[int, int]
) -> dict[str, Any]:
    """First captions against all captions: the embeddings as they are, and IsoCLIP with the text band."""
    head = ja.isoclip(model.projectors, *band).text
    queries, labels = captions.queries, captions.labels
    entries, baseline = {}, None
    for name, x in (("text-text", features.embeddings), ("isoclip", np.asarray(head(features.pre)))):
        entries[name], precision = measure_task(x[queries], x, labels[queries], labels, queries, baseline)
        baseline = precision if baseline is None else baseline
    return entries
