"""Queries that are in the gallery once, several times or not at all: each leaves its own gallery alone."""

import jax
import numpy as np
import oracles_ranking as oracles
import pytest

from jaxalign import analyse_bands, average_precision, isoclip, retrieval_metrics, sweep_bands, sweep_ranks
from jaxalign.errors import JaxalignError
from jaxalign.projectors import Projector, Projectors

# Of eight queries the first two are in the gallery twice, the next three once, the others not.
OWN = np.array([[3, 9], [0, 1], [4, -1], [-1, 7], [2, -1], [-1, -1], [-1, -1], [-1, -1]])
ONCE = np.array([[3], [0], [4], [7], [2], [-1], [-1], [-1]])


@pytest.fixture(scope="module")
def problem():
    query, gallery, query_labels, labels = oracles.problem(queries=8, items=24, width=6, classes=3, seed=4)
    for row, copies in enumerate(OWN):
        for at in copies[copies >= 0]:
            gallery[at], labels[at] = query[row], query_labels[row]
    return query, gallery, query_labels, labels


def mask(own, items=24):
    return oracles.table([row[row >= 0] for row in own], items)


@pytest.mark.parametrize("own", [OWN, ONCE], ids=["copies", "once"])
@pytest.mark.parametrize("over", ["one device", "a mesh"])
def test_what_leaves_is_as_junk(own, over, problem):
    query, gallery, *labels = problem
    mesh = None if over == "one device" else jax.make_mesh((1,), ("data",))
    found = retrieval_metrics(query, gallery, *labels, exclude_self=own, mesh=mesh)
    assert found == pytest.approx(retrieval_metrics(query, gallery, *labels, ignore=mask(own)))
    assert found["mAP"] != pytest.approx(retrieval_metrics(query, gallery, *labels)["mAP"])


@pytest.mark.parametrize("junk", ["lists", "a table"])
def test_junk_leaves_beside_the_copies(junk, problem):
    query, gallery, *labels = problem
    lists = [[20, 21] if row % 2 else [] for row in range(8)]
    ignore = lists if junk == "lists" else oracles.table(lists, 24)
    found = retrieval_metrics(query, gallery, *labels, exclude_self=OWN, ignore=ignore)
    both = mask(OWN) | oracles.table(lists, 24)
    assert found == pytest.approx(retrieval_metrics(query, gallery, *labels, ignore=both))


def test_one_column_is_the_plain_form(problem):
    query, gallery, *labels = problem
    five = query[:5], gallery, labels[0][:5], labels[1]
    for variant in ("paper", "reference"):
        plain = retrieval_metrics(*five, exclude_self=ONCE[:5, 0], variant=variant)
        assert retrieval_metrics(*five, exclude_self=ONCE[:5], variant=variant) == plain
        nobody = retrieval_metrics(*five, exclude_self=np.full((5, 2), -1), variant=variant)
        assert nobody == retrieval_metrics(*five, variant=variant)


@pytest.mark.parametrize("own", [OWN, ONCE], ids=["copies", "once"])
@pytest.mark.long
def test_searches_leave_out_the_same(own, problem):
    query, gallery, *labels = problem
    rng = np.random.default_rng(0)
    heads = Projectors(Projector(rng.normal(size=(6, 4))), Projector(rng.normal(size=(5, 4))))
    swept = sweep_bands(heads, query, gallery, *labels, k_top=[0, 1], k_bottom=[0], exclude_self=own)
    bands = {"a": (0, 0), "b": (1, 0)}
    analysed = analyse_bands(heads, query, gallery, *labels, bands=bands, exclude_self=own)
    for i, name in enumerate("ab"):
        head = isoclip(heads, i, 0).image
        expected = retrieval_metrics(head(query), head(gallery), *labels, ignore=mask(own))["mAP"]
        assert swept.mAP[i, 0] == pytest.approx(expected)
        assert analysed[name].mAP == pytest.approx(expected)
    texts = rng.normal(size=(9, 6))
    ranks = sweep_ranks(texts, query, gallery, *labels, ranks=[6], exclude_self=own)
    plain = retrieval_metrics(query, gallery, *labels, ignore=mask(own))["mAP"]
    assert ranks.mAP[0] == pytest.approx(plain)


@pytest.mark.long
def test_a_query_whose_only_positives_are_its_copies_has_none():
    x = np.eye(4)
    own = np.array([[0, 1], [2, -1]])
    relevant = [[0, 1], [2, 3]]
    found = np.asarray(average_precision(x[:2], x, relevant, exclude_self=own))
    assert np.isnan(found[0])
    assert found[1] == pytest.approx(1 / 3)  # the last of three that tie
    heads = Projectors(Projector(np.eye(4)), Projector(np.eye(4)))
    swept = sweep_bands(heads, x[:2], x, [0, 1], [0, 0, 1, 1], k_top=[0], k_bottom=[0], exclude_self=own)
    assert np.isfinite(swept.mAP).all()


def test_bad_positions_are_one_line(problem):
    query, gallery, *labels = problem
    for own, message in (
        (np.full((8, 2), -2), "positions from -2 to -2; expected -1 to 23"),
        (np.full((8, 1), 24), "positions from 24 to 24"),
        (np.zeros((7, 2), int), r"of shape \(7, 2\)"),
        (np.zeros((8, 0), int), r"of shape \(8, 0\)"),
        (np.zeros((8, 2)), "is float64 of shape"),
    ):
        with pytest.raises(JaxalignError, match=message):
            retrieval_metrics(query, gallery, *labels, exclude_self=own)
    with pytest.raises(JaxalignError, match="5 of 8 queries are in the gallery; expected all or none"):
        retrieval_metrics(query, gallery, *labels, exclude_self=ONCE, variant="reference")
