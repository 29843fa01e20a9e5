"""What a GPU would refuse, found without one: tensors left on the CPU, and waits for a result.

Algorithms are made on torch's device `meta`, which computes shapes alone, and knows neither numbers nor the CPU's
tensors. An update on it, which on a GPU is captured as a graph, may take and make tensors of that device alone.
Recurrent layers are left out: torch cannot move those to meta.
"""

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

import algorithms.base
import algorithms.policy
import algorithms.sac.sac
from algorithms.off_policy import OffPolicyBatch
from algorithms.poca.critic import Group
from algorithms.poca.poca import POCA
from algorithms.poca.settings import POCASettings
from algorithms.ppo.batch import PPOBatch, Transitions
from algorithms.ppo.ppo import PPO
from algorithms.ppo.settings import PPOSettings
from algorithms.sac.sac import SAC
from algorithms.sac.settings import SACSettings
from algorithms.settings import NetworkSettings
from envs.spec import BehaviorSpec, ObservationSpec
from tests.algorithms.loops import make_rows

pytestmark = pytest.mark.skipif(not hasattr(torch.utils, "swap_tensors"), reason="torch moves no modules to meta")
META = torch.device("meta")
N = 8  # rows
NUMBERS, IMAGE = ObservationSpec("numbers", (3,), "float32"), ObservationSpec("image", (4, 36, 36), "uint8", 1 / 255)
SPECS = {
    "continuous": BehaviorSpec("b", (NUMBERS,), 2),
    "hybrid": BehaviorSpec("b", (NUMBERS,), 2, (3, 2), masked=True),
    "branches": BehaviorSpec("b", (NUMBERS,), 0, (3, 2)),
    "images": BehaviorSpec("b", (NUMBERS, IMAGE), 2),
}


class OnMeta(TorchDispatchMode):
    """Refuses operations on tensors that are elsewhere, and those that make some there."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for each in tree_flatten((args, kwargs, result))[0]:
            if isinstance(each, torch.Tensor) and each.device != META:
                raise AssertionError(f"{function} on a tensor {tuple(each.shape)} of {each.device}")
        return result


def place(tensors, vector):
    """`algorithms.ops.adam.place` where tensors cannot take over data of another kind of device."""
    start = 0
    for tensor in tensors:
        end = start + tensor.numel()
        view = vector[start:end].view(tensor.shape)
        view.copy_(tensor.detach())
        if tensor.device == vector.device:
            tensor.data = view
        else:
            placed = nn.Parameter(view, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else view
            torch.utils.swap_tensors(tensor, placed)
        start = end


class Generator(torch.Generator):
    """One of the CPU, as there is none of meta."""

    def __new__(cls, device=None):
        return super().__new__(cls)


@pytest.fixture
def make(monkeypatch):
    """Makes an algorithm on the device."""
    monkeypatch.setattr(torch, "Generator", Generator)
    for module in (algorithms.base, algorithms.policy, algorithms.sac.sac):
        monkeypatch.setattr(module, "place", place)
    swaps = torch.__future__.get_swap_module_params_on_conversion()
    torch.__future__.set_swap_module_params_on_conversion(True)
    yield lambda kind, settings, spec: kind(spec, settings, make_rows(spec, settings.min_rows()), META, 0)
    torch.__future__.set_swap_module_params_on_conversion(swaps)


def zeros(*shape, dtype=torch.float32):
    return torch.zeros(shape, dtype=dtype, device=META)


def observed(spec, rows):
    return tuple(zeros(rows, *o.shape, dtype=getattr(torch, o.dtype)) for o in spec.observations)


@pytest.mark.parametrize("name", list(SPECS))
@pytest.mark.parametrize("accelerate", [True, False])
def test_an_update_of_sac_stays_on_its_device(make, name, accelerate):
    spec, network = SPECS[name], NetworkSettings([8, 8], encoder="nature")
    sac = make(SAC, SACSettings(network=network, batch_size=N, accelerate=accelerate), spec)
    batch = OffPolicyBatch(
        observations=observed(spec, 2 * N),
        recurrent_state=zeros(N, 0),
        places=None,
        noise=zeros(2 * N, spec.continuous_size),
        mask=zeros(2 * N, spec.mask_size, dtype=torch.bool),
        continuous=zeros(N, spec.continuous_size),
        discrete=zeros(N, sac.policy.branches.count, dtype=torch.int64),
        returns=zeros(N),
        next_discount=zeros(N),
        loss_mask=None,
    )
    with OnMeta():
        sac.learn(batch)


def played(algorithm, spec, group=None):
    """A batch of PPO's, or of POCA's, whose rows are judged by two numbers."""
    rows = Transitions(
        algorithm.policy.prepare(observed(spec, N)),
        zeros(N, spec.mask_size, dtype=torch.bool),
        zeros(N, spec.continuous_size),
        zeros(N, algorithm.policy.branches.count, dtype=torch.int64),
        zeros(N, 0),
        zeros(N, 0),
        None,
        group,
    )
    return PPOBatch(rows, *(zeros(N) for _ in range(3)), zeros(N, 1 if group is None else 2), zeros(N, 1))


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("name", list(SPECS))
def test_a_gradient_step_of_ppo_stays_on_its_device(make, name, shared):
    spec, network = SPECS[name], NetworkSettings([8, 8], encoder="nature")
    ppo = make(PPO, PPOSettings(network=network, rollout_size=N, minibatch_size=N // 2, shared_trunk=shared), spec)
    with OnMeta():
        ppo._learn_some((played(ppo, spec), zeros(N // 2, dtype=torch.int64)))


@pytest.mark.parametrize("name", list(SPECS))
def test_a_gradient_step_of_poca_stays_on_its_device(make, name):
    spec, network = SPECS[name], NetworkSettings([8, 8], encoder="nature")
    poca = make(POCA, POCASettings(network=network, rollout_size=N, minibatch_size=N // 2), spec)
    with OnMeta():
        group = Group(
            zeros(N, 0),
            poca.policy.prepare(observed(spec, 5)),
            zeros(5, 0),
            zeros(5, spec.continuous_size + sum(spec.branches)),
            zeros(N, 2, dtype=torch.int64),
            zeros(N, 2, dtype=torch.bool),
            zeros(N, 2),
        )
        poca._learn_some((played(poca, spec, group), zeros(N // 2, dtype=torch.int64)))


@pytest.mark.parametrize(
    "fault", [lambda x: x + torch.ones(N), lambda x: x + torch.tensor(1.0), lambda x: x.sum().item()]
)
def test_the_device_finds_what_a_gpu_would_refuse(fault):
    with pytest.raises((AssertionError, RuntimeError)), OnMeta():
        fault(zeros(N))
