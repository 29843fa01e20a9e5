"""Replaying: the logic with a graph that is none, and, where there is a GPU, an update's numbers with one that is."""

import logging
from contextlib import contextmanager, nullcontext

import numpy as np
import pytest
import torch
from loops import make_rows
from test_ppo import SPEC, fill

from algorithms import graphs
from algorithms.graphs import WARM_UP, Graphed
from algorithms.sac import SAC
from algorithms.settings import NetworkSettings, SACSettings
from buffers.rows import Writer


class Recorded:
    """A function that notes its inputs' numbers, and what stands in for CUDA: a graph calls it as at first."""

    def __init__(self, monkeypatch, captures=True):
        self.seen, self.recording, self.captures = [], False, captures
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


def test_elsewhere_it_is_a_plain_call(monkeypatch):
    function = Recorded(monkeypatch)
    graphed = Graphed(function, torch.device("cpu"))
    for i in range(WARM_UP + 3):
        graphed(numbered(i, torch.tensor(0)))
    assert len(function.seen) == WARM_UP + 3


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_replayed_updates_give_the_numbers_of_plain_ones():
    settings = SACSettings(network=NetworkSettings([32, 32]), batch_size=64, steps=3)
    algorithms = []
    for _ in range(2):
        rows = make_rows(SPEC, 1000)
        fill(rows, Writer(rows), 60)
        algorithms.append(SAC(SPEC, settings, rows, "cuda", 3))
    replayed, plain = algorithms
    plain._replayed = plain._learn
    for i in range(WARM_UP + 30):
        for algorithm in algorithms:
            algorithm.set_progress(i)
            algorithm.update()
    assert replayed._replayed._replay is not replayed._replayed._function, "captured"
    mine, theirs = replayed.state_dict(), plain.state_dict()
    for key, value in mine.items():
        np.testing.assert_allclose(value.numpy(), theirs[key].numpy(), rtol=1e-5, atol=1e-6, err_msg=key)
