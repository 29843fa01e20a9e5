"""Where an actor acts: choosing and moving, with the CPU in place of a GPU."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import trainer.runtime.actor
from algorithms.policy import Policy
from algorithms.settings import NetworkSettings
from envs.spec import BehaviorSpec, Lessons, ObservationSpec
from trainer.config.compose import compose
from trainer.config.schema import TrainConfig
from trainer.runtime.actor import LEAST_GPU_SECONDS, PolicyActor, quickest_actor
from trainer.runtime.collector_host import CollectorHost
from trainer.runtime.policy_store import PolicyReader, PolicyWriter, weights_bytes
from trainer.runtime.start import _share

SPEC = BehaviorSpec("b", (ObservationSpec("o", (4,), "float32"),), 1, (3,), True)


class Timed:
    """Actors of one policy; what a pass takes on the CPU and on the GPU is said, not measured."""

    def __init__(self, monkeypatch):
        self.policy = Policy(SPEC, NetworkSettings(hidden=[8]), "ppo")
        self.size = self.policy.flat.numel()
        self.memory = memoryview(bytearray(weights_bytes(self.size)))
        self.tried, self.patch = [], monkeypatch
        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(trainer.runtime.actor, "GPU", torch.device("cpu"))

    def choose(self, cpu, gpu, gpu_allowed=True):
        def seconds(actor, rows):
            self.tried.append((actor.where, rows))
            if len(self.tried) == 1:
                return cpu
            if gpu is None:
                raise RuntimeError("CUDA out of memory.\nmore")
            return gpu

        self.patch.setattr(PolicyActor, "pass_seconds", seconds)
        return quickest_actor(self.policy, PolicyReader(self.memory, self.size), 0, 64, gpu_allowed)


@pytest.fixture
def timed(monkeypatch):
    return Timed(monkeypatch)


def test_the_quicker_of_cpu_and_gpu_acts(timed):
    actor, words = timed.choose(cpu=5e-3, gpu=1e-3)
    assert actor.where == "torch on the CPU"  # which stands in for the GPU
    figures = "5.00 ms in numpy on the CPU and 1.00 ms in torch on the CPU"
    assert words == f"torch on the CPU, as a pass over 64 agents takes {figures}"
    timed.tried.clear()
    actor, words = timed.choose(cpu=1e-3, gpu=5e-3)
    assert actor.where == "numpy on the CPU"
    assert [rows for _, rows in timed.tried] == [64, 64]


def test_a_small_policy_takes_none_of_a_gpus_memory(timed):
    _, words = timed.choose(cpu=LEAST_GPU_SECONDS / 2, gpu=0)
    assert words == "numpy on the CPU, as a pass over 64 agents takes 0.10 ms in numpy on the CPU"
    assert len(timed.tried) == 1


def test_a_gpu_that_fails_is_reported_and_not_used(timed):
    actor, words = timed.choose(cpu=5e-3, gpu=None)
    assert actor.where == "numpy on the CPU"
    assert words.endswith("; on the GPU it fails: CUDA out of memory.")


def test_without_a_gpu_or_the_wish_for_one_nothing_is_measured(timed):
    assert timed.choose(cpu=5e-3, gpu=1e-3, gpu_allowed=False)[1] == "numpy on the CPU"
    timed.patch.setattr(torch.cuda, "is_available", lambda: False)
    assert timed.choose(cpu=5e-3, gpu=1e-3)[1] == "numpy on the CPU"
    assert not timed.tried


def test_an_actor_that_has_moved_takes_new_weights_along(timed):
    actor, _ = timed.choose(cpu=5e-3, gpu=1e-3)
    here = PolicyActor(timed.policy, PolicyReader(timed.memory, timed.size), 0, torch.device("cpu"))
    seen = (np.ones((3, 4), np.float32),), np.ones((3, 3), bool), np.ones((3, 0), np.float32)
    for version in (1, 2):
        weights = np.linspace(-version, version, timed.size, dtype=np.float32)
        PolicyWriter(timed.memory, timed.size).publish(weights, version)
        for each in (actor, here):
            each.refresh()
            assert each.version == version
            np.testing.assert_array_equal(each._policy.flat, weights)
        for one, other in zip(actor.act(*seen), here.act(*seen)):
            np.testing.assert_array_equal(one, other)


def test_an_actor_goes_on_where_its_random_state_was_that_of_another_device(timed):
    def random_state(of):
        actor = PolicyActor(timed.policy, PolicyReader(timed.memory, timed.size), of, torch.device("cpu"))
        return actor, actor.state()

    actor, own = random_state(0)
    actor.load_state([7] * 16)  # as long as a GPU's is
    assert actor.state() == own
    actor.load_state(random_state(1)[1])
    assert actor.state() == random_state(1)[1] != own


def test_a_pass_is_timed_over_as_many_agents_as_there_are(monkeypatch):
    policy = Policy(SPEC, NetworkSettings(hidden=[8]), "sac")
    size = policy.flat.numel()
    actor = PolicyActor(policy, PolicyReader(memoryview(bytearray(weights_bytes(size))), size), 0)
    seen, act = [], actor.act
    monkeypatch.setattr(actor, "act", lambda *given: (seen.append(len(given[0][0])), act(*given)))
    assert actor.pass_seconds(7) > 0
    assert seen == [7] * trainer.runtime.actor.PASSES


@pytest.mark.parametrize(
    ("overrides", "gpu", "rows"),
    [
        (["env=basic", "env.instances=5"], True, 5),
        (["env=basic", "device=cpu"], False, 16),
        (["env=basic", "run.mode=inline"], False, 16),
        (["env=unity", "env.player=env=basic", "env.instances=3", "env.num_areas=4"], True, 12),
    ],
)
def test_a_gpu_may_act_where_the_run_may_use_one_and_need_not_be_the_same_again(overrides, gpu, rows, monkeypatch):
    config = compose([*overrides, "algorithm.buffer_memory_mib=4"], TrainConfig, "config")
    monkeypatch.setattr(type(config.env), "make_manager", lambda *_: SimpleNamespace())
    asked, sent = [], []
    choose = trainer.runtime.actor.quickest_actor
    monkeypatch.setattr(
        trainer.runtime.actor, "quickest_actor", lambda *given: (asked.append(given[3:]), choose(*given))[1]
    )
    shared = _share(config, None, Lessons(0, ()))
    side = CollectorHost(config, Path(), shared, lambda *message, **_: sent.append(message), bool, None)
    side._open_channel(BehaviorSpec("Basic-v0", SPEC.observations, 1))
    assert asked == [(rows, gpu)]
    assert sent[0] == ("acting", "Basic-v0", "numpy on the CPU")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu_actions_are_as_likely_as_on_the_cpu():
    policy = Policy(SPEC, NetworkSettings(hidden=[8]), "ppo")
    size = policy.flat.numel()
    memory = memoryview(bytearray(weights_bytes(size)))
    PolicyWriter(memory, size).publish(np.linspace(-1, 1, size, dtype=np.float32), 1)
    actor = PolicyActor(policy, PolicyReader(memory, size), 0, trainer.runtime.actor.GPU)
    actor.refresh()
    seen = (np.ones((50, 4), np.float32),), np.ones((50, 3), bool), np.ones((50, 0), np.float32)
    acted = actor.act(*seen)
    policy.move_to(policy.flat.cpu())
    distribution = policy(policy.prepare([torch.from_numpy(seen[0][0])]), torch.from_numpy(seen[1]), torch.zeros(50, 0))
    choices = policy.branches.index(torch.from_numpy(acted.discrete).long())
    expected = distribution.log_prob(torch.from_numpy(acted.continuous), choices)
    np.testing.assert_allclose(acted.log_prob, expected.detach(), rtol=1e-4, atol=1e-4)
