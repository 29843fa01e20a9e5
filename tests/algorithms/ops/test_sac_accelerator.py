"""SAC with and without its accelerator does the same."""

import subprocess
import sys

import pytest
import torch

from algorithms.sac.update import sac_losses
from tests.algorithms.sac.test_update import ACTIONS, NETWORKS, filled

CASES = [
    *((actions, "MLP", {}) for actions in ACTIONS),
    *((actions, "MLP", {"dueling": True}) for actions in ("branches", "joint", "hybrid", "joint hybrid")),
    *(("hybrid", name, {}) for name in ("silu", "tanh")),
    ("continuous", "large", {}),
    ("hybrid", "large", {"learn_temperature": False}),
]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("actions", "network", "more"), CASES)
def test_losses_and_gradients_are_those_of_the_textbook(actions, network, more, weighted):
    sac = filled(actions, network, **more)
    batch = sac._to_device(sac._draw(sac._replay, 160))
    if weighted:
        batch = batch._replace(loss_mask=(torch.rand(160, generator=torch.Generator().manual_seed(1)) < 0.6).float())
    target_entropies = sac._target_entropies(batch)
    expected = sac_losses(sac.networks, batch, target_entropies)
    loss = expected.critic + expected.policy + expected.temperature
    losses, gradients = sac._accelerated(batch, target_entropies)
    for name, mine, theirs in zip(losses._fields, losses, expected, strict=True):
        torch.testing.assert_close(mine, theirs.detach(), atol=1e-5, rtol=1e-5, msg=lambda s, name=name: f"{name}: {s}")
    for mine, theirs in zip(gradients, torch.autograd.grad(loss, sac.parameters["all"]), strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-5, rtol=1e-4 if network == "large" else 1e-5)


@pytest.mark.parametrize(("actions", "network", "more"), CASES)
def test_several_updates_end_at_the_parameters_of_the_textbook(actions, network, more):
    accelerated, textbook = (filled(actions, network, accelerate=accelerate, **more) for accelerate in (True, False))
    before = accelerated.optimizers["all"].vector.clone()
    assert textbook._accelerated is None
    for sac in (accelerated, textbook):
        for _ in range(5):
            sac.update()
    torch.testing.assert_close(
        accelerated.optimizers["all"].vector, textbook.optimizers["all"].vector, atol=1e-5, rtol=1e-5
    )
    torch.testing.assert_close(accelerated.vectors["targets"], textbook.vectors["targets"], atol=1e-5, rtol=1e-5)
    assert (accelerated.optimizers["all"].vector - before).abs().max() > 1e-3


@pytest.mark.parametrize("network", ["image", "own", "memory"])
def test_steps_aside_for_networks_that_it_does_not_know(network):
    assert filled("hybrid", network)._accelerated is None
    assert network in NETWORKS


def test_nothing_of_it_is_imported_where_it_is_switched_off():
    code = """
import sys
for name in ("sac_accelerator", "manual_grad", "matmul"):
    sys.modules[f"algorithms.ops.{name}"] = None  # an import of it raises ImportError
from tests.algorithms.sac.test_update import filled
sac = filled("hybrid", "MLP", accelerate=False)
sac.update()
sac.policy.act
"""
    subprocess.run([sys.executable, "-c", code], check=True)
