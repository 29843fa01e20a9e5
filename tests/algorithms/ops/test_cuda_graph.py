"""Replaying: the logic with a graph that is none, and, where there is a GPU, an update's numbers with one that is."""

import logging
from contextlib import contextmanager, nullcontext

import numpy as np
import pytest
import torch

from algorithms.ops import cuda_graph as graphs
from algorithms.ops.cuda_graph import WARM_UP, Graphed
from algorithms.ppo.ppo import PPO
from algorithms.ppo.settings import PPOSettings
from algorithms.sac.sac import SAC
from algorithms.sac.settings import SACSettings
from algorithms.settings import NetworkSettings
from buffers.rows import Writer
from tests.algorithms.loops import make_rows
from tests.algorithms.ppo.test_ppo import SMALL, SPEC, fill, filled


class Recorded:
    """What stands in for CUDA around a function whose calls are made but for those that a graph records."""

    def __init__(self, monkeypatch, function=None, captures=True):
        self.seen, self.recording, self.captures = [], False, captures
        self.function = function or self._note
        recorded = self

        class Graph:
            def replay(self):
                recorded(recorded.captured)

        @contextmanager
        def capture(graph):
            recorded.recording = True
            try:
                if not captures:
                    raise RuntimeError("operation not permitted when stream is capturing\nmore")
                yield
            finally:
                recorded.recording = False

        class Stream:
            def wait_stream(self, other):
                pass

        for name, stand_in in {
            "CUDAGraph": Graph,
            "graph": capture,
            "Stream": Stream,
            "current_stream": Stream,
            "stream": lambda stream: nullcontext(),
        }.items():
            monkeypatch.setattr(graphs.torch.cuda, name, stand_in)

    def __call__(self, inputs):
        if self.recording:
            self.captured = inputs
        else:
            self.function(inputs)

    def _note(self, inputs):
        self.seen.append([x.item() for x in (inputs[0], *inputs[1])])


def numbered(i, kept):
    return torch.tensor(i), (torch.tensor(10 * i), kept), None


def test_every_call_happens_once_with_its_own_inputs(monkeypatch):
    function, kept = Recorded(monkeypatch), torch.tensor(0)
    graphed = Graphed(function, torch.device("cuda"))
    for i in range(WARM_UP + 3):
        kept.fill_(-i)
        graphed(numbered(i, kept))
    assert function.seen == [[i, 10 * i, -i] for i in range(WARM_UP + 3)]


def test_what_cannot_be_captured_goes_on_in_plain_calls_and_says_so_once(monkeypatch, caplog):
    function = Recorded(monkeypatch, captures=False)
    graphed = Graphed(function, torch.device("cuda"))
    with caplog.at_level(logging.WARNING, "outstep"):
        for i in range(WARM_UP + 3):
            graphed(numbered(i, torch.tensor(0)))
    assert [seen[0] for seen in function.seen] == list(range(WARM_UP + 3))
    assert [record.getMessage() for record in caplog.records] == [
        "updates run without a CUDA graph, which is slower: operation not permitted when stream is capturing"
    ]


def test_a_capture_that_fails_gives_back_the_stream_that_was_current(monkeypatch):
    function = Recorded(monkeypatch, captures=False)
    streams = ["ours"]

    @contextmanager
    def capture(graph):
        streams.append("the capture's")  # torch leaves it there when the end of the capture raises
        raise RuntimeError("operation failed due to a previous error during capture")
        yield

    @contextmanager
    def within(stream):
        before = streams[-1]
        try:
            yield
        finally:
            streams.append(before)

    monkeypatch.setattr(graphs.torch.cuda, "graph", capture)
    monkeypatch.setattr(graphs.torch.cuda, "stream", within)
    graphed = Graphed(function, torch.device("cuda"))
    for i in range(WARM_UP + 1):
        graphed(numbered(i, torch.tensor(0)))
    assert streams[-2:] == ["the capture's", "ours"]
    assert not graphed.captured


def test_elsewhere_it_is_a_plain_call(monkeypatch):
    function = Recorded(monkeypatch)
    graphed = Graphed(function, torch.device("cpu"))
    for i in range(WARM_UP + 3):
        graphed(numbered(i, torch.tensor(0)))
    assert len(function.seen) == WARM_UP + 3


def same(mine, theirs, **tolerance):
    mine, theirs = mine.state_dict(), theirs.state_dict()
    for key, value in mine.items():
        np.testing.assert_allclose(value.numpy(), theirs[key].numpy(), **tolerance, err_msg=key)


def test_a_graph_learns_from_each_rollout_of_ppo_and_sees_its_schedules(monkeypatch):
    changing = {"clip_end": 0.01, "entropy_coef_end": 1.0, "schedule_samples": 200, "max_lag": 20}
    settings = PPOSettings(**{**vars(SMALL), **changing})
    replayed, plain = (filled(settings, steps=60)[0] for _ in range(2))
    function = Recorded(monkeypatch, replayed._learn_some)
    replayed._replayed = Graphed(function, torch.device("cuda"))
    scheduled = replayed._clip, replayed._entropy
    for i in range(4):
        for ppo in (replayed, plain):
            ppo.set_progress(40 * i)
            ppo.update()
    assert replayed.updates == 4
    assert function.captured[0] is replayed._replayed._kept
    same(replayed, plain)
    # A graph sees new numbers in the tensors that it was recorded with, and nowhere else.
    assert all(one is other for one, other in zip(scheduled, (replayed._clip, replayed._entropy)))
    assert replayed._clip.item() == pytest.approx(0.4 * 0.2 + 0.6 * 0.01)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("algorithm", [SAC, PPO])
def test_replayed_updates_give_the_numbers_of_plain_ones(algorithm):
    network = NetworkSettings([32, 32])
    settings = {
        SAC: SACSettings(network=network, batch_size=64, n_step=3),
        PPO: PPOSettings(network=network, rollout_size=40, minibatch_size=16, epochs=2, max_lag=20),
    }
    both = []
    for _ in range(2):
        rows = make_rows(SPEC, 1000)
        fill(rows, Writer(rows), 150)
        both.append(algorithm(SPEC, settings[algorithm], rows, "cuda", 3))
    replayed, plain = both
    plain._replayed._plain_calls = None
    for i in range(WARM_UP + 9):
        for each in both:
            each.set_progress(i)
            each.update()
    assert replayed._replayed.captured
    same(replayed, plain, rtol=1e-5, atol=1e-6)
