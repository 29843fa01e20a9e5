"""The channel and the collector against a manager that a test drives by hand."""

from __future__ import annotations

from collections import deque

import numpy as np
import pytest

from buffers.rows import Layout, Rows, Writer
from envs.spec import BehaviorSpec, Decisions, ObservationSpec, Ready, StepResults
from trainer.runtime.collector import Channel, Collector
from trainer.runtime.ipc import BEFORE, COUNTERS, OPEN, SAMPLES, UPDATES
from trainer.runtime.rate_limiter import RateLimiter
from trainer.telemetry.statistics import Statistics

SPEC = BehaviorSpec("toy", (ObservationSpec("x", (1,), "float32"),), branches=(3,))
NOBODY = np.zeros(0, np.int64)


def observations(*values: float) -> tuple[np.ndarray, ...]:
    return (np.array(values, np.float32)[:, None],)


def decisions(agents: list[int], *values: float) -> Decisions:
    array = np.array(agents, np.int64)
    return Decisions(array.astype(np.int32), array, observations(*values), np.zeros((len(agents), 0), bool))


def results(agents: list[int], rewards: list[float], terminated=(), truncated=(), final=()) -> StepResults:
    array = np.array(agents, np.int64)
    return StepResults(
        array.astype(np.int32),
        array,
        np.array(rewards, np.float32),
        np.array([a in terminated for a in agents], bool),
        np.array([a in truncated for a in agents], bool),
        (np.array(final, np.float32).reshape(-1, 1),),
        np.zeros((len(final), 0), bool),
    )


def ready(closed=None, asking=None, lost=NOBODY, metrics=None) -> dict[str, Ready]:
    return {"toy": Ready(closed or results([], []), asking or decisions([]), np.asarray(lost, np.int64), metrics or {})}


class ByHand:
    """A manager whose `recv` hands out what the test has put in."""

    def __init__(self, instances: int = 4) -> None:
        self.specs = {"toy": SPEC}
        self.samples = np.zeros(instances, np.int64)
        self.busy_seconds = np.zeros(instances)
        self.layout = "by hand"
        self.inbox: deque[dict[str, Ready]] = deque()
        self.sent: list[list[int]] = []

    def recv(self, timeout):
        return self.inbox.popleft() if self.inbox else {}

    def send(self, behavior, agents, continuous, discrete):
        self.sent.append(agents.tolist())

    def state(self):
        return {}


class Counting:
    """An actor whose every action is the number of the pass that chose it."""

    def __init__(self) -> None:
        self.passes, self.version, self.sizes = 0, 1, []

    def refresh(self):
        pass

    def act(self, observations, mask, memory):
        self.passes += 1
        rows = len(observations[0])
        self.sizes.append(rows)
        return (
            np.zeros((rows, 0), np.float32),
            np.full((rows, 1), self.passes % 3, np.int32),
            np.full(rows, -self.passes, np.float32),
            memory,
        )

    def state(self):
        return self.passes


@pytest.fixture
def setting():
    layout = Layout(SPEC)
    rows = Rows(layout, bytearray(layout.memory_bytes(100)), 100)
    counters, manager, actor = np.zeros(COUNTERS, np.int64), ByHand(), Counting()
    collector = Collector(manager, lambda spec: Channel(spec, actor, Writer(rows), counters))
    collector.channel("toy").rate_limiter = RateLimiter(1.0, 0, 50)
    return collector, manager, actor, rows, counters


def test_an_agent_that_is_ready_acts_at_once_whoever_else_is_not(setting) -> None:
    collector, manager, actor, _, _ = setting
    manager.inbox += [ready(asking=decisions([2], 0.0)), ready(asking=decisions([0, 3], 1.0, 2.0)), {}]
    for _ in range(3):
        collector.turn(0)
    assert manager.sent == [[2], [0, 3]]
    assert actor.sizes == [1, 2]


def test_rows_hold_what_was_seen_done_and_earned(setting) -> None:
    collector, manager, _, rows, counters = setting
    manager.inbox += [
        ready(asking=decisions([0, 1], 10.0, 20.0)),
        ready(results([1], [0.5]), decisions([1], 21.0)),
        ready(results([1, 0], [0.25, 4.0], terminated=[0], truncated=[1], final=[22.0]), decisions([1, 0], 30.0, 11.0)),
    ]
    for _ in range(3):
        collector.turn(0)
    (values, actions, log_probs, rewards, links) = rows.gather(
        np.arange(1, 5), ("observation_0", "discrete", "log_prob", "reward", "next")
    )
    assert values[:, 0].tolist() == [20.0, 21.0, 10.0, 22.0]
    assert actions[:3, 0].tolist() == [1, 2, 1]
    assert log_probs[:3].tolist() == [-1, -2, -1]
    assert rewards[:3].tolist() == [0.5, 0.25, 4.0]
    assert links.tolist() == [2, 4, 0, -1]
    assert counters[SAMPLES] == 3
    assert [(e.instance, e.samples, e.reward, e.length) for e in collector.channel("toy").episodes] == [
        (1, 3, 0.75, 2),
        (0, 3, 4.0, 1),
    ]


def test_games_are_held_only_while_the_learner_is_behind(setting) -> None:
    collector, manager, _, rows, counters = setting
    collector.channel("toy").rate_limiter = RateLimiter(1.0, 0, 1)
    manager.inbox += [
        ready(asking=decisions([0, 1], 0.0, 0.0)),
        ready(results([0], [1.0], terminated=[0]), decisions([0], 1.0)),
        ready(results([1], [1.0], terminated=[1]), decisions([1], 1.0)),
    ]
    for _ in range(4):
        collector.turn(0)
    assert manager.sent == [[0, 1]]
    assert collector.throttled
    assert collector.channel("toy").may_update()
    counters[UPDATES] = rows.sampleable
    assert not collector.throttled
    collector.turn(0)
    assert manager.sent == [[0, 1], [0, 1]]


def test_a_lost_agent_loses_its_open_row_and_its_decision_and_nothing_else(setting) -> None:
    collector, manager, _, rows, counters = setting
    channel = collector.channel("toy")
    manager.inbox += [ready(asking=decisions([0, 1], 1.0, 2.0)), ready(results([0], [1.0]), decisions([0], 3.0))]
    collector.turn(0)
    collector.turn(0)
    assert counters[OPEN] == 1
    channel.rate_limiter = None  # held: decisions wait
    manager.inbox += [ready(lost=[0, 1]), ready(asking=decisions([1], 5.0))]
    collector.turn(0)
    collector.turn(0)
    assert counters[OPEN] == 0
    channel.rate_limiter = RateLimiter(1.0, 0, 50)
    collector.turn(0)
    assert counters[OPEN] == 1
    assert manager.sent == [[0, 1], [1]]
    manager.inbox.append(ready(results([1], [7.0], terminated=[1]), decisions([1], 6.0)))
    collector.turn(0)
    assert rows.head == 2
    assert rows.sampleable == 1  # agent 0's only row is never linked
    assert channel.episodes[0].reward == 7.0


def test_agents_beyond_the_first_sixteen_find_room(setting) -> None:
    collector, manager, _, rows, _ = setting
    manager.samples = np.zeros(100, np.int64)
    manager.busy_seconds = np.zeros(100)
    collector = Collector(manager, lambda spec: collector_channel)
    collector_channel = setting[0].channel("toy")
    manager.inbox += [
        ready(asking=decisions([90], 1.0)),
        ready(results([90], [2.0], terminated=[90]), decisions([90], 1.0)),
    ]
    collector.channel("toy")
    for _ in range(2):
        collector.turn(0)
    assert rows.head == 0 or rows.gather(np.array([1]), ("reward",))[0][0] == 2.0
    collector.turn(0)
    assert rows.head == 1


def test_supply_counts_from_each_instances_first_completion(setting) -> None:
    collector, manager, _, _, _ = setting
    manager.inbox.append(ready(asking=decisions([0, 1], 0.0, 0.0)))
    collector.turn(0)
    for _ in range(3):  # instance 0 completes three steps, instance 1 none
        manager.samples[0] += 1
        manager.busy_seconds[0] += 1e-6
        manager.inbox.append(ready(results([0], [0.0]), decisions([0], 0.0)))
        collector.turn(0)
    figures = collector.statistics()
    assert figures.samples.tolist() == [2, 0, 0, 0]
    assert figures.busy[0] == pytest.approx(2e-6)
    samples, supply = figures.supply()
    assert samples == 2
    assert supply == pytest.approx(2 * figures.spans[0] / 2e-6)


def test_a_channel_in_place_of_one_that_died_counts_what_is_in_the_rows(setting) -> None:
    collector, manager, actor, rows, counters = setting
    counters[BEFORE] = 1000
    manager.inbox += [ready(asking=decisions([0, 1], 1.0, 2.0)), ready(results([0], [1.0]), decisions([0], 3.0))]
    collector.turn(0)
    collector.turn(0)
    assert counters[SAMPLES] == 1001
    counters[SAMPLES] -= 1  # it died between the append and the count
    Channel(SPEC, actor, Writer(rows), counters)
    assert counters[SAMPLES] == 1001
    assert counters[OPEN] == 0


def test_figures_of_collectors_one_after_another_add_up() -> None:
    one = Statistics(np.array([3, 0]), np.array([4.0, 0.0]), np.array([2.0, 0.0]), 5.0, {"acting": 1.0}, "a")
    two = Statistics(np.array([1, 2]), np.array([1.0, 1.0]), np.array([0.5, 1.0]), 2.0, {"acting": 0.5}, "b")
    both = two.after(one)
    assert (both.samples.tolist(), both.spans.tolist(), both.busy.tolist()) == ([4, 2], [5.0, 1.0], [2.5, 1.0])
    assert (both.elapsed, both.seconds, both.layout) == (7.0, {"acting": 1.5}, "b")
    assert two.after(Statistics.none()) is two
    assert both.since(one).samples.tolist() == two.samples.tolist()
