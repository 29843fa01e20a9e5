"""Several learners make the steps that one makes: of PPO, SAC and POCA, in every way in which batches are cut."""

import threading
from dataclasses import replace
from queue import Queue

import numpy as np
import pytest
import torch

from algorithms.metrics import seeded
from algorithms.poca.poca import POCA
from algorithms.ppo.ppo import PPO
from algorithms.ppo.settings import EntropyPer, PPOSettings
from algorithms.ranks import LearnerLost, SharedSteps
from algorithms.sac.sac import SAC
from algorithms.sac.settings import SACSettings
from algorithms.settings import Cell, MemorySettings, NetworkSettings
from buffers.rows import Layout, Rows, Writer
from tests.algorithms.poca.test_poca import SMALL as POCA_SMALL
from tests.algorithms.poca.test_poca import SPECS, Teams
from tests.algorithms.ppo.test_ppo import SPEC, fill

LEARNERS = 2
PPO_SMALL = PPOSettings(network=NetworkSettings([16]), rollout_size=40, minibatch_size=13, epochs=2, max_lag=50)
SAC_SMALL = SACSettings(network=NetworkSettings([16]), batch_size=33, start_samples=20, n_step=3)
MEMORY = NetworkSettings([16], memory=MemorySettings(Cell["gru"], 8, 5, 2))


class InThreads:
    """Learners of one process: who is last adds up."""

    def __init__(self, size=LEARNERS):
        self.size, self.lost = size, False
        self.queues = [Queue() for _ in range(size - 1)]
        self.barrier, self.numbers = threading.Barrier(size), [None] * size

    def of(self, rank):
        return OfOne(self, rank)


class OfOne:
    def __init__(self, learners, rank):
        self.learners, self.rank, self.size = learners, rank, learners.size
        self.sums = 0

    def send(self, given):
        for queue in self.learners.queues:
            queue.put(given)

    def add_up(self, numbers):
        self.sums += 1
        numbers_of = self.learners.numbers
        numbers_of[self.rank] = numbers.clone()
        try:
            self.learners.barrier.wait(20)
            total = sum(numbers_of)
            self.learners.barrier.wait(20)
        except threading.BrokenBarrierError as error:
            raise LearnerLost from error
        numbers.copy_(total)


def shared(first, others, learners=None):
    """Lets algorithms learn together; returns what ends the others."""
    learners = learners or InThreads(1 + len(others))
    first.share(learners.of(0))

    def follow(algorithm, queue):
        algorithm.share(learners.of(1 + others.index(algorithm)))
        while (given := queue.get()) is not None:
            try:
                algorithm.follow(given)
            except LearnerLost:
                return

    threads = [threading.Thread(target=follow, args=each, daemon=True) for each in zip(others, learners.queues)]
    for thread in threads:
        thread.start()

    def end():
        for queue, thread in zip(learners.queues, threads):
            queue.put(None)
            thread.join()

    return end


def filled(settings, spec=SPEC):
    network = settings.network
    layout = Layout(spec, network.memory.numbers)
    rows = Rows(layout, bytearray(layout.memory_bytes(2000)), 2000)
    writer = Writer(rows)
    kind = SAC if isinstance(settings, SACSettings) else PPO
    return kind(spec, settings, rows, "cpu", 3), lambda i: fill(rows, writer, 40, i, 1, state=layout.state_size)


def equal(one, other, but_for=()):
    ours, theirs = one.state_dict(), other.state_dict()
    for name in ours:
        if "random" not in name and name not in but_for:
            torch.testing.assert_close(ours[name], theirs[name], rtol=1e-4, atol=1e-5, msg=f"{name} differs")


CASES = {
    "ppo": PPO_SMALL,
    "ppo, a shared trunk": replace(PPO_SMALL, shared_trunk=True),
    "ppo, by branch": replace(PPO_SMALL, entropy_per=EntropyPer["branch"]),
    "ppo with a memory": replace(PPO_SMALL, network=MEMORY),
    "ppo, minibatches of one": replace(PPO_SMALL, minibatch_size=1),
    "sac": SAC_SMALL,
    "sac, textbook": replace(SAC_SMALL, accelerate=False),
    "sac with a memory": replace(SAC_SMALL, network=MEMORY),
}


@pytest.mark.parametrize("learners", [2, 3])
@pytest.mark.parametrize("case", CASES)
def test_learners_make_the_steps_of_one(case, learners):
    (alone, fill_alone), (first, fill_first) = filled(CASES[case]), filled(CASES[case])
    others = [filled(CASES[case])[0] for _ in range(learners - 1)]
    for other in others:  # what they begin with is the first one's
        other._storage.normal_()
    end = shared(first, others)
    for i in range(4):
        fill_alone(i), fill_first(i)
        for algorithm in (alone, first):
            algorithm.set_progress(100 * i)
            algorithm.update()
    end()
    assert first.updates == alone.updates == 4
    equal(first, alone)
    for other in others:
        assert torch.equal(other.vectors["policy"], first.vectors["policy"])


@pytest.mark.parametrize("cell", ["none", "lstm"])
def test_learners_make_the_steps_of_one_with_groups(cell):
    settings = replace(POCA_SMALL, network=NetworkSettings([8, 8], memory=MemorySettings(Cell[cell], 8, 4)))
    made = [seeded(lambda: Teams(SPECS["hybrid"], settings).play(40), 0) for _ in range(2)]
    alone, first, other = (POCA(SPECS["hybrid"], settings, each.rows, "cpu", 0) for each in (*made, made[0]))
    end = shared(first, [other])
    for algorithm in (alone, first, alone, first):
        algorithm.update()
    end()
    assert first.updates == alone.updates == 2
    # The gradient of what attention adds to all keys is 0, but for rounding, of which Adam makes whole steps.
    equal(first, alone, but_for=["weights/value"])


@pytest.mark.parametrize("case", ["ppo", "sac", "sac with a memory"])
@pytest.mark.parametrize("after", [0, 1, 5])
def test_a_learner_that_is_lost_changes_no_result(case, after):
    (alone, fill_alone), (first, fill_first), (other, _) = (filled(CASES[case]) for _ in range(3))
    learners = InThreads()
    end = shared(first, [other], learners)
    steps, add_up = [], first.optimizers["all"].add_up

    def until(numbers):
        if len(steps) == after:
            learners.barrier.abort()
        steps.append(0)
        add_up(numbers)

    first.optimizers["all"].add_up = until
    for i in range(8):
        fill_alone(i), fill_first(i)
        alone.update(), first.update()
    end()
    assert first.shared is None
    assert len(steps) == after + 1
    assert first.updates == alone.updates == 8
    equal(first, alone)


def test_only_what_has_changed_is_passed_on():
    sac, more = filled(SAC_SMALL)
    more(0)
    sent = []

    class Sent(OfOne):
        def send(self, given):
            sent.append(given)

        def add_up(self, numbers): ...

    sac.share(Sent(InThreads(), 0))
    for _ in range(11):
        sac.update()
    assert [len(given.moments) for given in sent] == [4] + [0] * 10
    # The normaliser looks at every tenth batch.
    assert [given.moved[0] is not None for given in sent] == [True] + [False] * 9 + [True]
    sac.load_state_dict(sac.state_dict())
    sac.update()
    assert sent[-1].moved[0] is None
    sac.policy.flat[0] += 1
    sac.update()
    assert sent[-1].moved[0] is not None


def test_parts_cover_all_rows_and_weigh_as_much():
    class Ranks:
        size = 3

        def add_up(self, numbers): ...

    def of(rank):
        ranks = Ranks()
        ranks.rank = rank
        return SharedSteps(ranks, (), ())

    parts = [of(rank).part(7) for rank in range(3)]
    assert np.concatenate([np.arange(7)[part] for part in parts]).tolist() == list(range(7))
    loss_mask = torch.tensor([1.0, 1, 0, 0, 1, 0] + [0] * 8)
    assert sum(of(rank).weight(loss_mask, 7) for rank in range(3)) == pytest.approx(1)
    assert of(0).weight(loss_mask, 7) == pytest.approx(2 / 3)
    assert [of(rank).part(2) for rank in range(3)] == [slice(0, 2)] * 3
    assert of(1).weight(None, 2) == pytest.approx(1 / 3)
