"""Where a run's updates run, with a torch that stands in for one that sees a GPU."""

import logging
import sys
from types import SimpleNamespace

import pytest
import torch

from trainer.config.schema import Device
from trainer.runtime.device import gpu_trouble, learning_device

OLD = "CUDA error: no kernel image is available for execution on the device\nmore"


@pytest.fixture
def sees_gpu(monkeypatch):
    """Makes torch see a GPU, on which computing raises an error or goes well."""

    def see(error):
        def zeros(*_, **__):
            if error:
                raise RuntimeError(error)
            return torch.zeros(1)

        cuda = SimpleNamespace(is_available=lambda: True)
        stand_in = SimpleNamespace(__version__="2.13.0", cuda=cuda, zeros=zeros, device=torch.device)
        monkeypatch.setitem(sys.modules, "torch", stand_in)

    return see


def test_updates_run_on_a_gpu_that_computes(sees_gpu):
    sees_gpu(None)
    assert gpu_trouble() is None
    assert learning_device(Device["auto"]).type == "cuda"
    assert learning_device(Device["cpu"]).type == "cpu"


def test_a_gpu_that_torch_has_no_code_for_is_reported_and_not_used(sees_gpu, caplog):
    sees_gpu(OLD)
    with caplog.at_level(logging.WARNING, "outstep"):
        assert learning_device(Device["auto"]).type == "cpu"
    (record,) = caplog.records
    assert record.getMessage() == (
        "Updates run on the CPU: torch 2.13.0 cannot compute on the GPU that it finds: "
        "CUDA error: no kernel image is available for execution on the device."
    )


def test_without_a_gpu_there_is_nothing_to_tell(monkeypatch, caplog):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with caplog.at_level(logging.WARNING, "outstep"):
        assert learning_device(Device["auto"]).type == "cpu"
    assert not caplog.records
