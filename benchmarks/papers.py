"""Against the papers' own functions, out of checkouts of their repositories (`benchmarks.checkouts`).

Features are synthetic and shared; each claim first compares the results.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import jaxalign as ja
from jaxalign.errors import JaxalignError

from .checkouts import load_functions
from .measure import Claim, pair
from .settings import pick, settings

# Caltech101's shape at ViT-B/32: test queries, training gallery, width before and after the head.
QUERIES, GALLERY, CLASSES = pick((2465, 4128, 100), (40, 60, 4))
WIDTH, DIM = pick((768, 512), (24, 16))
SHOTS = pick(16, 3)
BAND = pick((150, 50), (3, 2))


def claims() -> Iterator[Claim]:
    """Those of every checkout that was given."""
    checkouts = settings().checkouts
    given = names_for_torch()
    if given is None:
        print("papers: skipped, needs PyTorch and torchmetrics (pip install 'jaxalign[reference]')")
        return
    if "isoclip" in checkouts:
        yield retrieval_claim(checkouts["isoclip"], "isoclip", "src", given)
        yield band_claim(checkouts["isoclip"], given)
    if "reevaluating" in checkouts:
        yield retrieval_claim(checkouts["reevaluating"], "reevaluating", "cvpr26-suppl/retrieval/src", given)
        yield lda_claim(checkouts["reevaluating"], given)
    if "cross_the_gap" in checkouts:
        from .papers_inversion import inversion_claims

        yield from inversion_claims(checkouts["cross_the_gap"], given)


def names_for_torch() -> dict[str, Any] | None:
    """What the functions refer to; None where it is not installed."""
    try:
        import torch
        from torchmetrics.functional.retrieval import retrieval_average_precision, retrieval_r_precision
        from torchmetrics.utilities.checks import _check_retrieval_functional_inputs
    except ImportError:
        return None
    return {
        "torch": torch,
        "F": torch.nn.functional,
        "nn": torch.nn,
        "optim": torch.optim,
        "np": np,
        "device": torch.device("cpu"),
        "tqdm": lambda steps, *_, **__: steps,
        "print": lambda *_, **__: None,
        "NANOBEIR_DATASETS": [],
        "retrieval_average_precision": retrieval_average_precision,
        "retrieval_r_precision": retrieval_r_precision,
        "_check_retrieval_functional_inputs": _check_retrieval_functional_inputs,
    }


def published_retrieval(
    checkout: str, repository: str, folder: str, given: Mapping[str, Any]
) -> Callable[[Any, Any, Any, Any], dict[str, float]]:
    """Their metrics of unit features: similarities in batches of 32, then query by query."""
    at_k = load_functions(
        checkout, repository, f"{folder}/utils.py", ["retrieval_average_precision_atk"], given
    )
    names = ["calculate_similarities", "compute_metrics"]
    found = load_functions(checkout, repository, f"{folder}/retrieval.py", names, {**given, **at_k})

    def run(query: Any, gallery: Any, query_labels: Any, gallery_labels: Any) -> dict[str, float]:
        # torchmetrics since 1.8 takes scores of 0 and below for irrelevant; adding 2 changes no order.
        scores = found["calculate_similarities"]("caltech101", gallery, query) + 2
        return found["compute_metrics"]("caltech101", scores, query_labels, gallery_labels)

    return run


def retrieval_claim(checkout: str, repository: str, folder: str, given: Mapping[str, Any]) -> Claim:
    """All four metrics of one method."""
    torch, published = given["torch"], published_retrieval(checkout, repository, folder, given)
    query, gallery, query_labels, gallery_labels = features(DIM)
    q, g = (torch.nn.functional.normalize(torch.tensor(x)) for x in (query, gallery))
    labels = torch.tensor(query_labels), torch.tensor(gallery_labels)
    ours = lambda: ja.retrieval_metrics(query, gallery, query_labels, gallery_labels, variant="reference")
    theirs = lambda: published(q, g, *labels)
    check(ours(), theirs())
    timed = pair(ours, theirs, repeats=3)
    return Claim(
        name=f"retrieval_metrics, {QUERIES} x {GALLERY} x {DIM}, {CLASSES} classes",
        seconds=timed.seconds,
        compile_seconds=timed.compile_seconds,
        reference=f"{repository}: compute_metrics",
        reference_seconds=timed.reference_seconds,
        at_least=8,
        flops=2.0 * QUERIES * GALLERY * DIM,
    )


def band_claim(checkout: str, given: Mapping[str, Any]) -> Claim:
    """One run of IsoCLIP on stored features: both heads, both sets of features, the metrics."""
    torch, published = given["torch"], published_retrieval(checkout, "isoclip", "src", given)
    (apply_iso,) = load_functions(checkout, "isoclip", "src/retrieval.py", ["apply_iso"], given).values()
    query, gallery, query_labels, gallery_labels = features(WIDTH)
    rng = np.random.default_rng(1)
    image, text = (rng.normal(size=(w, DIM)).astype(np.float32) / w**0.5 for w in (WIDTH, DIM))
    projectors = ja.Projectors(ja.Projector(jnp.asarray(image)), ja.Projector(jnp.asarray(text)))
    labels = torch.tensor(query_labels), torch.tensor(gallery_labels)
    normalize = torch.nn.functional.normalize

    def theirs() -> dict[str, float]:
        _, head = apply_iso(torch.tensor(text.T), torch.tensor(image.T), *BAND)
        q, g = (normalize(torch.tensor(x) @ head) for x in (query, gallery))
        return published(q, g, *labels)

    def ours() -> dict[str, float]:
        head = ja.isoclip(projectors, *BAND).image
        return ja.retrieval_metrics(
            head(query), head(gallery), query_labels, gallery_labels, variant="reference"
        )

    check(ours(), theirs())
    timed = pair(ours, theirs, repeats=3)
    return Claim(
        name=f"IsoCLIP with its metrics, {QUERIES} x {GALLERY}, {WIDTH} to {DIM}",
        seconds=timed.seconds,
        compile_seconds=timed.compile_seconds,
        reference="isoclip: apply_iso, compute_metrics",
        reference_seconds=timed.reference_seconds,
        flops=2.0 * DIM * (QUERIES * GALLERY + (QUERIES + GALLERY) * WIDTH),
    )


def lda_claim(checkout: str, given: Mapping[str, Any]) -> Claim:
    """LDA of one draw, and its accuracy on the test features."""
    torch, folder = given["torch"], "cvpr26-suppl/few_shot_classification"
    accuracy = load_functions(checkout, "reevaluating", f"{folder}/utils.py", ["cls_acc"], given)
    names = ["calc_acc_from_sims", "lda_iclr24_classify"]
    found = load_functions(
        checkout, "reevaluating", f"{folder}/main_few_shots.py", names, {**given, **accuracy}
    )
    test, train, test_labels, _ = features(DIM, CLASSES * SHOTS)
    train_labels = np.arange(CLASSES * SHOTS) % CLASSES
    test, train = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (test, train))
    arrays = {"train_features": train, "train_labels": train_labels, "test_features": test}
    inputs = {name: torch.tensor(x) for name, x in (arrays | {"test_labels": test_labels}).items()}

    @jax.jit
    def fit_and_score(train: Any, train_labels: Any, test: Any, test_labels: Any) -> jax.Array:
        classifier = ja.lda_classifier(train, train_labels, num_classes=CLASSES, normalize=False)
        return 100 * (classifier(test).argmax(1) == test_labels).mean()

    ours = lambda: fit_and_score(train, train_labels, test, test_labels)
    theirs = lambda: found["lda_iclr24_classify"](inputs)
    check({"accuracy": float(ours())}, {"accuracy": theirs()}, tolerance=100 / QUERIES)
    timed = pair(ours, theirs)
    return Claim(
        name=f"LDA, {CLASSES} classes, {SHOTS} shots, {QUERIES} test features, width {DIM}",
        seconds=timed.seconds,
        compile_seconds=timed.compile_seconds,
        reference="reevaluating: lda_iclr24_classify",
        reference_seconds=timed.reference_seconds,
        flops=2.0 * QUERIES * DIM * CLASSES + 1.0 * CLASSES * SHOTS * DIM * min(CLASSES * SHOTS, DIM),
    )


def features(width: int, items: int = GALLERY) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Queries, items and their labels, around a centre for each class; the items class after class."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(CLASSES, width))
    labels = np.arange(QUERIES) % CLASSES, np.arange(items) % CLASSES
    query, gallery = (centres[y] + 3 * rng.normal(size=(len(y), width)) for y in labels)
    return query.astype(np.float32), gallery.astype(np.float32), *labels


def check(ours: Mapping[str, Any], theirs: Mapping[str, float], tolerance: float = 0.01) -> None:
    """Raise JaxalignError unless the results agree, up to near ties in float32 of two libraries."""
    for name in theirs.keys() & ours.keys():
        if abs(ours[name] - theirs[name]) > tolerance:
            raise JaxalignError(f"{name} is {ours[name]} here and {theirs[name]} in the checkout")
