"""Slow float64 references for bands, spectra and subspaces, written from the formulas."""

import numpy as np
import oracles


def band_embeddings(image, text, x, k_top, k_bottom, modality="image"):
    """IsoCLIP embeddings of features `x`; homogeneous kernels where a head is biased."""
    heads = dict(zip(("image", "text"), oracles.isoclip(image, text, k_top, k_bottom), strict=True))
    head, x = heads[modality], np.asarray(x, np.float64)
    if head.shape[0] == x.shape[1] + 1:
        x = np.hstack([x, np.ones((len(x), 1))])
    return x @ head


def mean_average_precision(query, gallery, query_labels, gallery_labels, itself=None):
    """Percent; `itself[i]` is the gallery position of query i, which leaves its gallery."""
    scores, found = oracles.cosine(query, gallery), []
    for i, row in enumerate(scores):
        ignored = np.zeros(len(row), bool)
        if itself is not None:
            ignored[itself[i]] = True
        sequence = oracles.relevance_sequence(row, gallery_labels == query_labels[i], ignored)
        if sum(sequence):
            found.append(oracles.average_precision(sequence))
    return 100 * np.mean(found)


def widest_rectangle(s):
    """The largest share n s_min / (r s_max) of a band, and the bands that have it, by trying all."""
    r = len(s)
    share = {
        (a, b): (b - a) * s[a:b].min() / (r * s[a:b].max()) for a in range(r) for b in range(a + 1, r + 1)
    }
    best = max(share.values())
    return best, [band for band, value in share.items() if value >= best * (1 - 1e-12)]


def intra_modal_eigenvalues(kernel):
    """Of the full d_in x d_in operator W^T W, descending."""
    return np.linalg.eigvalsh(kernel @ kernel.T)[::-1]
