"""PyTorch's own files, of the kinds that training scripts leave: tensors are those that it reads itself."""

import argparse
import warnings
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from jaxalign.conversion.checkpoint_files import read_tensors

pytestmark = pytest.mark.reference


@pytest.fixture(scope="module")
def torch():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("torch", reason="needs the extra `reference`")


def saved(torch, kind: str) -> dict:
    """What training scripts save, by the kinds that public reports name; and the tensors in it."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(5, 4), torch.nn.LayerNorm(4))
    state = model.state_dict()
    optimiser = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 5)).sum().backward()
    optimiser.step()
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 10)
    return {
        "plain": state,
        "epoch": {
            "epoch": 3,
            "state_dict": state,
            "optimizer": optimiser.state_dict(),
            "scaler": {"scale": 2.0},
        },
        "schedule": {"model": state, "lr_scheduler": schedule.state_dict(), "schedule": schedule},
        "scalars": {"state_dict": state, "best_acc1": np.float64(63.2), "loss": np.float32(1)},
        "paths": {"state_dict": state, "args": argparse.Namespace(out=Path("/x"), lr=1e-3)},
        "default dictionary": {"state_dict": state, "history": defaultdict(list, {"loss": [1.0]})},
        "random states": {
            "state_dict": state,
            "rng": [np.random.RandomState(0).get_state(), torch.get_rng_state()],
        },
        "sets": {"state_dict": state, "frozen": {"a", "b"}},
        "torch's own": {
            "state_dict": state,
            "kinds": [torch.float16, torch.device("cpu"), torch.Size([3]), torch.strided],
            "odd": [torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8)],
            "complex": torch.ones(2, dtype=torch.complex64),
        },
        "model beside": {"state_dict": state, "loss": torch.nn.CrossEntropyLoss()},
        "parameters": {key: torch.nn.Parameter(x) for key, x in state.items()},
        "half": {key: x.half() for key, x in state.items()},
        "bfloat16": {key: x.bfloat16() for key, x in state.items()},
        "not contiguous": {key: x.t().contiguous().t() if x.ndim == 2 else x for key, x in state.items()},
        "views of one storage": dict(zip("ab", torch.arange(12.0).reshape(3, 4).t().split(2), strict=True)),
        "integers": {"ids": torch.arange(77)[None].expand(2, -1), "mask": torch.ones(3, 3).bool()},
        "namespace": {
            "state_dict": state,
            "args": argparse.Namespace(set_=frozenset({1}), nested={1: {2: 3}}),
        },
    }[kind]


KINDS = (
    "plain",
    "epoch",
    "schedule",
    "scalars",
    "paths",
    "default dictionary",
    "random states",
    "sets",
    "torch's own",
    "model beside",
    "parameters",
    "half",
    "bfloat16",
    "not contiguous",
    "views of one storage",
    "integers",
    "namespace",
)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", [{}, {"_use_new_zipfile_serialization": False}, {"pickle_protocol": 5}])
def test_tensors_are_those_that_pytorch_reads(torch, kind, form, tmp_path):
    path = tmp_path / "m.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # storages and quantised tensors are about to go
        torch.save(saved(torch, kind), path, **form)
        theirs = torch.load(path, weights_only=False)
    theirs = theirs.get("state_dict", theirs.get("model", theirs))
    found = {key: x for key, x in read_tensors(path).items() if not x.is_object}
    assert found.keys() == theirs.keys()
    for key, x in theirs.items():
        assert (found[key].shape, found[key].dtype) == (tuple(x.shape), str(x.dtype).removeprefix("torch."))
        np.testing.assert_array_equal(found[key].read().astype(np.float64), x.detach().double().numpy())


def test_torchscript(torch, tmp_path):
    class Twice(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = torch.nn.Linear(3, 2)

        def forward(self, x):
            return 2 * self.inner(x)

    model = Twice()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(model).save(tmp_path / "m.pt")
    found = read_tensors(tmp_path / "m.pt")
    assert found.keys() == model.state_dict().keys()
    for key, x in model.state_dict().items():
        np.testing.assert_array_equal(found[key].read(), x.numpy())
