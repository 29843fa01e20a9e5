"""Functions of tensors that CUDA replays as one graph: one launch instead of hundreds."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

Inputs = TypeVar("Inputs", bound=tuple[Any, ...])
Part = TypeVar("Part", bound=tuple[Any, ...])
_log = logging.getLogger("outstep")


class Graphed(Generic[Inputs]):
    """Calls `function`, whose results are what it changes in place: on CUDA, after a few calls, by replaying a graph.

    The function waits for nothing, draws no random numbers, and its inputs, tensors in tuples, have the same shapes in
    all calls. It sees the inputs of the first replay for ever; those of later ones are copied into them, unless they
    are the same tensors. Numbers are those of plain calls. What cannot be captured goes on in plain calls.
    """

    def __init__(self, function: Callable[[Inputs], None], device: torch.device) -> None:
        self._function = function
        self._plain_calls = WARM_UP if device.type == "cuda" else None
        """How many are left; None = all calls are."""
        self._replay: Callable[[Inputs], None] | None = None
        self._kept: Any = None

    def __call__(self, inputs: Inputs) -> None:
        """One call, or one replay."""
        if self._plain_calls is None:
            self._function(inputs)
        elif self._plain_calls:
            self._plain_calls -= 1
            self._call_aside(inputs)
        else:
            if self._replay is None:
                self._replay = self._captured(inputs)
            self._replay(inputs)

    @property
    def captured(self) -> bool:
        """Whether there is a graph by now, which calls replay."""
        return self._replay is not None and self._replay is not self._function

    def keep(self, part: Part) -> Part:
        """A part of the inputs of several calls, where a graph finds it: copied there now, and not for each call."""
        if self._plain_calls is None:
            return part
        if self._kept is None:
            self._kept = part
        _copy(part, self._kept)
        kept: Part = self._kept
        return kept

    def _call_aside(self, inputs: Inputs) -> None:
        """In another stream, as captures ask of the calls before them: libraries set themselves up there."""
        ours, other = torch.cuda.current_stream(), torch.cuda.Stream()  # type: ignore[no-untyped-call]
        other.wait_stream(ours)
        with torch.cuda.stream(other):
            self._function(inputs)
        ours.wait_stream(other)

    def _captured(self, first: Inputs) -> Callable[[Inputs], None]:
        """What replays a call, which is recorded here without being made; the function itself if it cannot be."""
        graph = torch.cuda.CUDAGraph()
        try:
            # A capture that fails leaves its own stream as the current one; the outer block takes back ours.
            with torch.cuda.stream(torch.cuda.current_stream()), torch.cuda.graph(graph):
                self._function(first)
        except RuntimeError as error:
            _log.warning("updates run without a CUDA graph, which is slower: %s", str(error).strip().splitlines()[0])
            return self._function

        def replay(inputs: Inputs) -> None:
            _copy(inputs, first)
            graph.replay()

        return replay


WARM_UP = 3
"""Plain calls before a capture."""


def _copy(given: Any, static: Any) -> None:
    for there, here in zip(_tensors(static), _tensors(given)):
        if there is not here:
            there.copy_(here)


def _tensors(inputs: Any) -> Iterator[Tensor]:
    if isinstance(inputs, Tensor):
        yield inputs
    elif isinstance(inputs, tuple):
        for each in inputs:
            yield from _tensors(each)
