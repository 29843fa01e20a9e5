"""Agents whose rows tell who they are: everything in a row follows from its episode's number and its step.

Each agent plays one episode after another; lengths and ends follow from the episode's number.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from buffers.rows import Layout, Rows, Writer
from envs.spec import Array, BehaviorSpec, ObservationSpec

WIDTH = 16
SPEC = BehaviorSpec(
    "oracle",
    (ObservationSpec("vector", (WIDTH,), "float32"), ObservationSpec("image", (2, 3, 3), "uint8", 1 / 255)),
    continuous_size=2,
    branches=(3, 2),
    masked=True,
)
TERMINATED, TRUNCATED, LOST = 0, 1, 2


def make_rows(capacity: int, positions: bool = False) -> Rows:
    layout = Layout(SPEC, positions=positions)
    return Rows(layout, bytearray(layout.memory_bytes(capacity)), capacity)


def length(episode: Array) -> Array:
    """Steps of an episode: 1 to 12."""
    return episode * 7919 % 12 + 1


def end(episode: Array) -> Array:
    """How an episode ends."""
    return episode * 104729 % 97 % 3


def vector(episode: Array, step: Array) -> Array:
    """(M, WIDTH): the episode, the step, and numbers that follow from both."""
    mixed = (episode * 31 + step * 17)[..., None] + np.arange(WIDTH) * 101
    mixed = mixed % 65536
    mixed[..., 0], mixed[..., 1] = episode, step
    return mixed.astype(np.float32)


def image(episode: Array, step: Array) -> Array:
    return ((episode * 3 + step * 5)[..., None] + np.arange(18)).astype(np.uint8).reshape(*episode.shape, 2, 3, 3)


def mask(episode: Array, step: Array) -> Array:
    return (episode + step)[..., None] % np.arange(2, 7) == 0


def continuous(episode: Array, step: Array) -> Array:
    return np.stack((episode % 1000 / 1000, step / 100), axis=-1).astype(np.float32)


def discrete(episode: Array, step: Array) -> Array:
    return np.stack((episode % 3, step % 2), axis=-1).astype(np.int32)


def reward(episode: Array, step: Array) -> Array:
    return ((episode * 13 + step * 29) % 64 / 8).astype(np.float32)


@dataclass
class Step:
    """What the reference knows of a row."""

    number: int
    agent: int
    episode: int
    step: int
    version: int
    next: Step | None = field(default=None, repr=False)
    terminated: bool = False
    final: bool = False

    @property
    def sampleable(self) -> bool:
        return self.next is not None or self.terminated


@dataclass
class Players:
    """Agents that append to `rows`; `steps` is the reference: every row ever, from number 1 on."""

    rows: Rows
    agents: int
    seed: int = 0
    record: bool = True
    version: int = 0
    steps: list[Step] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.writer = Writer(self.rows)
        self.rng = np.random.default_rng(self.seed)
        self.episode = np.arange(1, self.agents + 1)
        self.step = np.zeros(self.agents, np.int64)
        self.acted = np.zeros(self.agents, np.int64)  # version that acted on the open row
        self._last: dict[int, Step] = {}

    def append(self, agents: Array | None = None) -> None:
        """One append: of `agents`, or of some at random."""
        if agents is None:
            some = self.rng.integers(1, min(self.agents, 8) + 1)
            agents = self.rng.permutation(self.agents)[:some]
        episode, step = self.episode[agents], self.step[agents]
        last, kind = step == length(episode) - 1, end(episode)
        terminated, truncated, lost = last & (kind == TERMINATED), last & (kind == TRUNCATED), last & (kind == LOST)
        cut, after = episode[truncated], step[truncated] + 1
        self.writer.append(
            agents,
            (vector(episode, step), image(episode, step)),
            mask(episode, step),
            continuous(episode, step),
            discrete(episode, step),
            -reward(episode, step),
            self.acted[agents],
            reward(episode, step),
            terminated,
            truncated,
            (vector(cut, after), image(cut, after)),
            mask(cut, after),
            position=step,
        )
        self.writer.forget(agents[lost])
        if self.record:
            self._remember(agents, terminated, truncated, lost)
        self.step[agents] += 1
        self.episode[agents[last]] += self.agents
        self.step[agents[last]] = 0
        self.acted[agents] = self.version

    def held(self) -> list[Step]:
        """The reference's rows that the buffer still holds."""
        return self.steps[max(0, len(self.steps) - self.rows.capacity) :]

    def _remember(self, agents: Array, terminated: Array, truncated: Array, lost: Array) -> None:
        closed = []
        for i, agent in enumerate(agents.tolist()):
            row = self._new(agent, int(self.step[agent]))
            row.terminated = bool(terminated[i])
            if agent in self._last:
                self._last.pop(agent).next = row
            if truncated[i]:
                closed.append(row)
            elif not terminated[i] and not lost[i]:
                self._last[agent] = row
        for row in closed:
            row.next = self._new(row.agent, row.step + 1)
            row.next.final, row.next.version = True, 0

    def _new(self, agent: int, step: int) -> Step:
        row = Step(len(self.steps) + 1, agent, int(self.episode[agent]), step, int(self.acted[agent]))
        self.steps.append(row)
        return row


def dies_at(line: int, append: Callable[[], object]) -> bool:
    """Whether `append` dies, as it does where the `line`-th line of fragments.py or rows.py is run.

    False if it has fewer.
    """
    left = line

    def trace(frame, event, _):
        nonlocal left
        if not frame.f_code.co_filename.endswith(("buffers/fragments.py", "buffers/rows.py")):
            return None
        left -= event == "line"
        if not left:
            raise SystemExit
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        append()
    except SystemExit:
        return True
    finally:
        sys.settrace(before)
    return False
