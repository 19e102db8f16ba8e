import jax
import numpy as np
import pytest
from oracles_ranking import problem

from jaxalign.errors import JaxalignError
from jaxalign.ranking.retrieval import average_precision, retrieval_metrics, text_retrieval_metrics


def with_nan(x, row):
    x = x.copy()
    x[row, 0] = np.nan
    return x


QUERY, GALLERY, QUERY_LABELS, GALLERY_LABELS = problem(4, 6, 3, 2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"query": QUERY[0]}, r"query has shape \(3,\); expected two axes, \[n, d\]"),
        ({"gallery": QUERY[:0]}, r"gallery is empty, shape \(0, 3\); expected at least one row"),
        ({"query": QUERY[:0]}, r"query is empty"),
        (
            {"query": QUERY[:, :2]},
            "query features are 2 wide, gallery features 3; expected features of one model",
        ),
        (
            {"gallery": with_nan(GALLERY, [2, 5])},
            r"gallery has NaN or infinite values in 2 of 6 rows \(first: 2, 5\); leave",
        ),
        ({"query": np.full((4, 3), np.inf)}, r"in 4 of 4 rows \(first: 0, 1, 2, 3\)"),
        ({"query_labels": [1, 2]}, r"query_labels has shape \(2,\); expected one label per row, \(4,\)"),
        ({"gallery_labels": np.ones((6, 1), int)}, r"gallery_labels has shape \(6, 1\)"),
        (
            {"gallery_labels": list("abcdef")},
            "query_labels are integers, gallery_labels are strings; expected one",
        ),
        ({"query_labels": np.ones(4)}, "query_labels has dtype float64; expected integers or strings"),
        ({"query_labels": [b"a"] * 4, "gallery_labels": ["a"] * 6}, "are bytes, gallery_labels are strings"),
        ({"query_labels": np.array(["a", 1, None, "b"], object)}, "has dtype object"),
        (
            {"query_labels": [8] * 4},
            "none of the 4 queries has a positive in the gallery; check that query and",
        ),
        ({"exclude_self": True}, "there are 4 queries and 6 gallery items; pass exclude_self=positions"),
        (
            {"exclude_self": [0, 1]},
            r"exclude_self is int64 of shape \(2,\); expected True, False, or the gallery",
        ),
        ({"exclude_self": [0, 1, 2, 6]}, "positions from 0 to 6; expected 0 to 5"),
        ({"exclude_self": [0, -1, 2, 3]}, "positions from -1 to 3"),
        ({"block_size": 0}, "block_size is 0; expected a positive number of queries, or None"),
        ({"recall_at": (1, 7)}, "k is 1, 7; expected integers from 1 to 6, the gallery size"),
        ({"recall_at": (0,)}, "k is 0; expected integers from 1 to 6"),
        ({"dtype": np.float64}, "dtype is float64; expected float32 or bfloat16"),
        ({"gallery": 1j * GALLERY}, "gallery is an array of complex128; expected an array of real"),
        (
            {"relevant": np.ones((4, 6), bool)},
            "got query_labels and gallery_labels and relevant; exp",
        ),
        ({"query_labels": None}, "got gallery_labels; expected query_labels and"),
        ({"ignore": [[0], [1], [2]]}, "ignore has 3 lists; expected one per query, 4"),
        (
            {"ignore": [[], [1, 6], [2], []]},
            r"ignore\[1\] has positions from 1 to 6; expected 0 to 5, positions",
        ),
        (
            {"ignore": [[], [1.5], [2], []]},
            r"ignore\[1\] is float64 of shape \(1,\); expected gallery positions",
        ),
        ({"variant": "papers"}, "unknown variant 'papers'; did you mean 'paper'"),
    ],
)
def test_error_messages(changes, message):
    case = {
        "query": QUERY,
        "gallery": GALLERY,
        "query_labels": QUERY_LABELS,
        "gallery_labels": GALLERY_LABELS,
    }
    with pytest.raises(JaxalignError, match=message) as raised:
        retrieval_metrics(**(case | changes))
    assert "\n" not in str(raised.value)


def test_relevance_table_errors():
    with pytest.raises(
        JaxalignError, match=r"relevant is int64 of shape \(4, 6\); expected bool of shape \(4, 6\)"
    ):
        average_precision(QUERY, GALLERY, np.ones((4, 6), int))
    with pytest.raises(
        JaxalignError, match=r"ignore is bool of shape \(6, 4\); expected bool of shape \(4, 6\)"
    ):
        average_precision(QUERY, GALLERY, np.ones((4, 6), bool), ignore=np.ones((6, 4), bool))


def test_traced_labels_say_what_to_use():
    with pytest.raises(JaxalignError, match=r"query_labels are traced.*use average_precision with relevant"):
        jax.jit(lambda labels: retrieval_metrics(QUERY, GALLERY, labels, GALLERY_LABELS))(QUERY_LABELS)


def test_text_retrieval_errors():
    with pytest.raises(
        JaxalignError, match=r"query_labels has shape \(2,\); expected one label per row, \(4,\)"
    ):
        text_retrieval_metrics(QUERY, [1, 2])
    with pytest.raises(JaxalignError, match="none of the 4 queries has a positive"):
        text_retrieval_metrics(QUERY, [1, 2, 3, 4])
    with pytest.raises(JaxalignError, match="captions has NaN or infinite values in 1 of 4 rows"):
        text_retrieval_metrics(with_nan(QUERY, 1), [1, 1, 2, 2])
