"""Tensors read a part at a time: every part in its place, and nothing damaged goes unseen."""

import warnings
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxalign.conversion.torch_files import read_torch
from jaxalign.errors import JaxalignError
from jaxalign.weights import stored
from jaxalign.weights.stored import (
    Span,
    StoredTensor,
    aligned_zeros,
    array_parts,
    cast_parts,
    fill,
    taken_over,
)

RNG = np.random.default_rng(0)


def on_disk(array: np.ndarray, path, before: bytes = b"", after: bytes = b"") -> Span:
    path.write_bytes(b"header" + before + array.tobytes() + after)
    content = path.read_bytes()[6:]
    return Span(path, 6, len(content), zlib.crc32(content))


@pytest.mark.parametrize("shape", [(), (1,), (7,), (5, 3), (2, 3, 4), (0, 3)])
@pytest.mark.parametrize("elements", [1, 3, 4, 1000])
def test_parts_are_the_elements_in_order(shape, elements, tmp_path):
    x = RNG.normal(size=shape).astype(np.float16)
    tensor = on_disk(x, tmp_path / "x", b"abc", b"rest").tensor(shape, "float16", skip=3)
    parts = [part.copy() for part in tensor.parts(elements)]
    assert all(part.shape == (elements,) for part in parts[:-1])
    np.testing.assert_array_equal(np.concatenate([*parts, np.empty(0, np.float16)]), x.reshape(-1))
    np.testing.assert_array_equal(tensor.read(), x)


def test_any_changed_byte_of_a_span_is_seen(tmp_path):
    """Also one beside the tensor: the checksum is of all."""
    path = tmp_path / "x"
    tensor = on_disk(RNG.normal(size=20), path, b"abc", b"rest").tensor((20,), "float64", skip=3)
    whole = path.read_bytes()
    for i in range(6, len(whole)):
        path.write_bytes(whole[:i] + bytes([whole[i] ^ 1]) + whole[i + 1 :])
        with pytest.raises(JaxalignError, match="cut off or damaged"):
            list(tensor.parts(6))
    for length in (0, 5, 8, 100, len(whole) - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(JaxalignError, match="cut off or damaged"):
            list(tensor.parts(6))
    path.unlink()
    with pytest.raises(JaxalignError, match="cannot read"):
        tensor.read()


@pytest.mark.parametrize("part", [1, 10, 64, 1 << 16])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_fill(part, dtype, monkeypatch):
    """Views of any strides, parts that end anywhere."""
    monkeypatch.setattr(stored, "PART", part)
    source = RNG.normal(size=(23, 4, 3)).astype(jnp.dtype(dtype))
    tensor = StoredTensor(source.shape, dtype, lambda n: array_parts(source, n))
    views = [np.zeros((3, 4, n), np.float32).transpose(2, 1, 0) for n in (11, 0, 5, 7)]
    fill(views, tensor)
    np.testing.assert_array_equal(np.concatenate(views), source.astype(np.float32))


def test_cast_parts_are_all_bytes(monkeypatch):
    monkeypatch.setattr(stored, "PART", 7)
    x = RNG.normal(size=(5, 6)).astype(np.float32).T
    assert b"".join(cast_parts(x, np.float16)) == x.astype(np.float16).tobytes()


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="accelerators have memory of their own")
@pytest.mark.parametrize("shape", [(), (3,), (17, 5)])
def test_memory_is_taken_over(shape):
    """A copy would take the memory twice: what is written later shows."""
    out = aligned_zeros(shape)
    assert not out.any()
    assert out.ctypes.data % 64 == 0
    array = taken_over({"x": out})["x"]
    out[...] = 3
    np.testing.assert_array_equal(array, out)


@pytest.mark.parametrize("shape", [(1 << 30, 1 << 20), (1 << 40, 1 << 40)])
def test_no_memory_is_said(shape):
    with pytest.raises(JaxalignError, match=r"there is no memory for the [0-9,]+ bytes"):
        aligned_zeros(shape)


@pytest.mark.reference
@pytest.mark.parametrize("legacy", [False, True])
def test_views_as_pytorch_saves_them(legacy, tmp_path):
    """Windows on a storage, transposes, strides of zero, one storage for several."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch = pytest.importorskip("torch", reason="needs the extra `reference`")
    base = torch.arange(60, dtype=torch.float32).reshape(6, 10)
    tensors = {
        "whole": base,
        "rows": base[2:4],
        "columns": base[:, 3:5],
        "transposed": base.T,
        "one": base[3, 3],
        "spread": base[:, :1].expand(6, 4),
        "axis of one": base[:, None, ::10],
        "empty": base[:0],
        "half": base.half().T,
        "contiguous": base.T.contiguous(),
    }
    path = tmp_path / "m.pt"
    torch.save(tensors, path, _use_new_zipfile_serialization=not legacy)
    found = read_torch(path)
    assert found.keys() == tensors.keys()
    for name, x in tensors.items():
        assert (found[name].shape, found[name].dtype) == (tuple(x.shape), x.numpy().dtype.name)
        for elements in (1, 4, 1000):
            flat = np.concatenate([part.copy() for part in found[name].parts(elements)] or [np.empty(0)])
            np.testing.assert_array_equal(flat, x.numpy().reshape(-1), err_msg=name)
    if not legacy:  # there no checksums are
        content = path.read_bytes()
        at = content.index(base.numpy().tobytes())
        path.write_bytes(content[: at + 8] + b"\xff" + content[at + 9 :])
        damaged = read_torch(path)
        for name in ("whole", "rows", "columns", "one"):
            with pytest.raises(JaxalignError, match="cut off or damaged"):
                damaged[name].read()
