"""Text files as Windows' editors save them: a mark before the first letter, which is no part of it."""

import codecs

import dataset_layouts as layouts
import pytest

from jaxalign import JaxalignError
from jaxalign.eval.cli.groups import read_names
from jaxalign.eval.datasets import find_dataset
from jaxalign.eval.datasets.items import read_content
from jaxalign.eval.datasets.readers import read_lines
from jaxalign.eval.feature_files.tables import read_table
from jaxalign.eval.paper.tables import find_table


def mark_every_text(folder):
    texts = [path for path in folder.rglob("*") if path.suffix in (".txt", ".json", ".csv")]
    assert texts
    for path in texts:
        path.write_bytes(codecs.BOM_UTF8 + path.read_bytes().replace(b"\n", b"\r\n"))


@pytest.mark.parametrize(
    "write",
    [
        layouts.zhou,
        layouts.aircraft,
        layouts.cub,
        layouts.bdd100k,
        layouts.places365,
        layouts.inat2021_mini,
        layouts.karpathy,
        layouts.nocaps,
        layouts.distractors,
    ],
)
def test_lists_of_data_sets(write, tmp_path):
    record = write(tmp_path)
    plain = read_content(record, tmp_path)
    mark_every_text(tmp_path)
    assert read_content(record, tmp_path) == plain


def test_class_names(tmp_path):
    file = tmp_path / "names.txt"
    file.write_bytes(b"cat\nred apple\n")
    mark_every_text(tmp_path)
    assert read_names(file) == ("cat", "red apple")


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "latin-1"])
def test_class_names_in_another_encoding(encoding, tmp_path):
    """UTF-16 without its mark is UTF-8 as well."""
    file = tmp_path / "names.txt"
    file.write_bytes(("cat\nhéron\n" if encoding == "latin-1" else "cat\ndog\n").encode(encoding))
    with pytest.raises(JaxalignError, match=r"names\.txt is no UTF-8 text"):
        read_names(file)
    with pytest.raises(JaxalignError, match=r"names\.txt is no UTF-8 text"):
        read_lines(find_dataset("cub"), file)
    with pytest.raises(JaxalignError, match=r"names\.txt is no UTF-8 text"):
        read_table(file)


def test_files_that_were_joined_with_their_marks(tmp_path):
    file = tmp_path / "names.txt"
    file.write_bytes(codecs.BOM_UTF8 + b"cat\n" + codecs.BOM_UTF8 + b"dog\n")
    assert read_names(file) == ("cat", "dog")
    assert read_lines(find_dataset("cub"), file) == ["cat", "dog"]
    assert read_table(file).entries[""].read().tolist() == ["cat", "dog"]


def test_tables_of_ones_own(tmp_path):
    file = tmp_path / "mine.csv"
    file.write_text("protocol,backbone,dataset,method,value\nncm,ViT-B/32,x,image-image,60\n")
    plain = find_table(str(file)).rows()
    mark_every_text(tmp_path)
    assert find_table(str(file)).rows() == plain
