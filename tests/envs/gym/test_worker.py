import numpy as np
import pytest

from envs.gym.adapter import GymEnv, behavior_spec
from envs.gym.slots import METRICS, STEPPED, TERMINATED, TRUNCATED, Slots, allocate
from envs.gym.worker import Actions, Plan, Worker
from envs.seeding import episode_seed
from tests.toys import oracle_length, oracle_truncates


class Bench:
    """A worker driven by hand: `now` is its clock, `events` its answers and reports in their order."""

    def __init__(self, env, instances, seed=5, tick=0.0, replay=None):
        self.now, self.tick, self.events, self.seed = 0.0, tick, [], seed
        spec = behavior_spec(env.make(), env.behavior)
        block = allocate(spec, instances)
        self.slots = Slots(spec, instances, block)
        self.slots.episode[:] = -1
        plan = Plan(env, spec, instances, 0, instances, seed, replay or {})
        self.worker = Worker(plan, block, self.events.append, self.events.append, self.clock)

    def clock(self):
        self.now += self.tick
        return self.now

    def act(self, actions):
        """Sends actions by instance."""
        for instance, action in actions.items():
            self.slots.discrete[instance] = action
        self.worker.pump(bytes(actions))

    def take(self):
        """The events since the last call."""
        events, self.events[:] = list(self.events), []
        return events


def oracle(**kwargs):
    return GymEnv("tests.toys:Oracle-v0", kwargs, time_scale=1.0)


@pytest.fixture
def paced():
    bench = Bench(GymEnv("tests.toys:Paced-v0", {"length": 1000}, time_scale=1.0), 3)
    bench.worker.pump(bytes(range(3)))
    assert bench.take() == [bytes([0, 1, 2])]
    return bench


def test_a_slow_instance_delays_no_other(paced):
    paced.act({0: 3, 1: 0, 2: 1})  # 100, 1 and 2 seconds
    answered = []
    while paced.now < 99:
        paced.now += paced.worker.wait()
        paced.worker.pump(b"")
        for local in b"".join(paced.take()):
            answered.append((paced.now, local))
            paced.act({local: local - 1})
    assert answered == sorted(answered)
    assert set(answered) == {(t, 1) for t in range(1, 100)} | {(t, 2) for t in range(2, 100, 2)}
    assert len(answered) == 99 + 49
    paced.now = 100.0
    paced.worker.pump(b"")
    assert 0 in b"".join(paced.take())


def test_nothing_is_answered_before_its_deadline(paced):
    paced.act({0: 0, 1: 1})
    paced.now = 0.999
    paced.worker.pump(b"")
    assert paced.take() == []
    assert paced.worker.wait() == pytest.approx(0.001)
    paced.now = 1.0
    paced.worker.pump(b"")
    assert paced.take() == [bytes([0])]


def test_a_deadline_counts_from_when_the_action_arrived(paced):
    paced.now = 50.0
    paced.act({2: 1})
    assert paced.worker.wait() == 2.0


def test_durations_are_divided_by_the_time_scale():
    bench = Bench(GymEnv("tests.toys:Paced-v0", {}, time_scale=20.0), 1)
    bench.worker.pump(b"\0")
    bench.act({0: 3})
    assert bench.worker.wait() == 5.0


def test_time_scale_0_does_not_wait():
    bench = Bench(GymEnv("tests.toys:Paced-v0", {}, time_scale=0.0), 1)
    bench.worker.pump(b"\0")
    bench.act({0: 3})
    assert bench.worker.wait() is None
    assert bench.take() == [b"\0", b"\0"]


def test_busy_seconds_are_the_durations_that_have_passed(paced):
    paced.act({0: 0, 1: 1})
    paced.now = 1.5
    paced.worker.pump(b"")
    np.testing.assert_array_equal(paced.slots.busy, [1, 0, 0])


def test_a_duration_that_is_no_number_is_a_fault(paced):
    paced.act({0: 4, 1: 0})
    (fault,) = paced.take()
    assert (fault.kind, fault.instance) == ("fault", 0)
    assert "info['duration'] is nan" in fault.content
    assert paced.worker.wait() == 1.0


def test_a_resets_duration_is_waited_out_with_the_step():
    bench = Bench(oracle(duration=3.0, length=2), 1)
    bench.worker.pump(b"\0")
    waits = [bench.worker.wait()]
    for _ in range(2):
        bench.now += waits[-1]
        bench.worker.pump(b"")
        bench.act({0: 0})
        waits.append(bench.worker.wait())
    assert waits == [3.0, 3.0, 6.0]


def test_steps_without_a_duration_are_answered_together():
    bench = Bench(oracle(length=1000), 4)
    bench.worker.pump(bytes(range(4)))
    bench.take()
    bench.act({3: 1, 1: 2, 0: 0})
    assert bench.take() == [bytes([3, 1, 0])]


def test_long_steps_are_answered_one_by_one():
    bench = Bench(oracle(length=1000), 3, tick=0.001)
    bench.worker.pump(bytes(range(3)))
    assert bench.take() == [b"\0", b"\1", b"\2"]
    np.testing.assert_allclose(bench.slots.busy, 0.001)


def test_a_step_and_the_episode_that_follows_it_come_in_one_answer():
    bench = Bench(oracle(), 1)
    bench.worker.pump(b"\0")
    bench.take()
    kinds = set()
    for episode in range(40):
        seed = episode_seed(5, 0, episode)
        assert bench.slots.episode[0] == episode
        for step in range(1, oracle_length(seed) + 1):
            bench.act({0: 2})
            slots, last = bench.slots, step == oracle_length(seed)
            assert slots.reward[0] == 100 * step + 2
            observation = [seed >> 16, seed & 0xFFFF, step, 2]
            if last:
                cut = oracle_truncates(seed)
                kinds.add(cut)
                assert slots.flags[0] == STEPPED | METRICS | (TRUNCATED if cut else TERMINATED)
                metrics, answer = bench.take()
                assert metrics == ("metrics", 0, {0: {"steps": step, "flag": 1.0}})
                if cut:
                    np.testing.assert_array_equal(slots.final_observations[0][0], observation)
                following = episode_seed(5, 0, episode + 1)
                observation = [following >> 16, following & 0xFFFF, 0, -1]
            else:
                assert slots.flags[0] == STEPPED
                (answer,) = bench.take()
            assert answer == b"\0"
            np.testing.assert_array_equal(slots.observations[0][0], observation)
    assert kinds == {True, False}


@pytest.mark.parametrize("fault", ["step", "reset"])
def test_an_env_that_raises_reports_its_traceback_and_is_made_anew_when_asked(fault):
    bench = Bench(GymEnv("tests.toys:Faulty-v0", {"fault": fault, "length": 1}), 2)
    bench.worker.pump(bytes(range(2)))
    bench.take()
    bench.act({0: 4, 1: 1})
    events = bench.take()
    fault_report = next(event for event in events if not isinstance(event, bytes) and event.kind == "fault")
    assert fault_report.instance == 0
    assert "toys.py" in fault_report.content
    assert "RuntimeError: the" in fault_report.content
    assert 'worker.py", line' not in fault_report.content.split("toys.py")[-1]
    assert [event for event in events if isinstance(event, bytes)] == [b"\1"]
    episode = bench.slots.episode[0]
    bench.worker.pump(b"\0")
    assert bench.take() == [b"\0"]
    assert bench.slots.flags[0] == 0
    assert bench.slots.episode[0] == episode + 1


def test_recorded_actions_lead_to_the_same_decision():
    first = Bench(oracle(length=9), 1)
    first.worker.pump(b"\0")
    for action in (3, 1, 2):
        first.act({0: action})
    again = Bench(oracle(length=9), 1, replay={0: Actions([[], [], []], [[3], [1], [2]])})
    again.worker.pump(b"\0")
    assert again.take() == [b"\0"]
    assert again.slots.flags[0] == 0
    np.testing.assert_array_equal(again.slots.observations[0], first.slots.observations[0])


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
@pytest.mark.parametrize(
    ("where", "named"),
    [
        ("reset", "observation 'observation' at [2] is"),
        ("observation", "observation 'observation' at [1] is"),
        ("final", "observation 'observation' at [3] is"),
        ("reward", "the reward is"),
    ],
)
def test_a_number_that_is_none_is_a_fault_by_name_and_reaches_no_one(where, named, value):
    bench = Bench(GymEnv("tests.toys:Odd-v0", {"where": where, "value": value}), 1)
    bench.worker.pump(b"\0")
    faults = 0
    for _ in range(300):
        for event in bench.take():
            if event == b"\0":
                assert all(np.isfinite(field).all() for field in bench.slots.observations)
                assert np.isfinite(bench.slots.reward[0])
                if bench.slots.flags[0] & TRUNCATED:
                    assert np.isfinite(bench.slots.final_observations[0]).all()
            elif event.kind == "fault":
                assert f"{named} {value}" in event.content
                faults += 1
        bench.act({0: 1})
    assert faults > 5


def test_numbers_whose_squares_do_not_fit_are_numbers():
    bench = Bench(GymEnv("tests.toys:Odd-v0", {"where": "observation", "value": "-3e38"}), 1)
    least = 0.0
    for _ in range(50):
        bench.act({0: 1})
        least = min(least, bench.slots.observations[0].min())
    assert least == np.float32(-3e38)
    assert bench.take().count(b"\0") == 50


def test_an_env_that_does_not_do_the_same_again_is_a_fault_once():
    bench = Bench(oracle(length=2), 1, replay={0: Actions([[]] * 3, [[3], [1], [2]])})
    bench.worker.pump(b"\0")
    (fault,) = bench.take()
    assert "ended at step 2 of 3" in fault.content
    bench.worker.pump(b"\0")
    assert bench.take() == [b"\0"]


def test_masks_reach_their_slots():
    env = GymEnv("tests.toys:Mixed-v0")
    spec = behavior_spec(env.make(), env.behavior, masked=True)
    block = allocate(spec, 1)
    slots = Slots(spec, 1, block)
    events = []
    worker = Worker(Plan(env, spec, 1, 0, 1, 1), block, events.append, events.append)
    worker.pump(b"\0")
    for _ in range(20):
        allowed = slots.mask[0, :3]
        assert allowed.sum() == 1
        slots.discrete[0, 0] = allowed.argmax()
        slots.continuous[0] = [0, 0.5]
        worker.pump(b"\0")  # the env itself refuses what its mask forbids
        assert slots.reward[0] == 1.0
    assert events == [b"\0"] * 21


def test_a_mask_that_no_reset_announced_is_a_fault():
    env = GymEnv("tests.toys:Mixed-v0")
    spec = behavior_spec(env.make(), env.behavior, masked=False)
    events = []
    worker = Worker(Plan(env, spec, 1, 0, 1, 1), allocate(spec, 1), events.append, events.append)
    worker.pump(b"\0")
    assert "reset must return one" in events[0].content


@pytest.mark.parametrize(
    ("mistake", "reported"),
    [
        ("interrupt", "KeyboardInterrupt: from the game"),
        ("exit", "SystemExit: bye"),
        ("none", "the reward is None, where one number is right"),
        ("step", "step() returned 4 values; right is"),
        ("duration", "is '3 minutes', where one number is right"),
    ],
)
def test_a_step_that_goes_wrong_fails_its_instance_alone(mistake, reported):
    bench = Bench(GymEnv("tests.toys:Mistaken-v0", {"mistake": mistake}), 2)
    bench.worker.pump(bytes([0, 1]))
    assert bench.take() == [bytes([0, 1])]
    bench.act({0: 1})
    (fault,) = bench.take()
    assert (fault.kind, fault.instance) == ("fault", 0)
    assert reported in fault.content
    bench.worker.pump(b"\0")  # it is made again
    assert bench.take() == [b"\0"]


def test_spaces_that_only_a_reset_makes_are_served():
    env = GymEnv("tests.toys:Mistaken-v0", {"mistake": "nothing", "space": "late"})
    made = env.make()
    made.reset()
    spec, events = behavior_spec(made, env.behavior), []
    Worker(Plan(env, spec, 1, 0, 1, 1), allocate(spec, 1), events.append, events.append).pump(b"\0")
    assert events == [b"\0"]


def test_an_array_of_one_number_is_a_reward():
    bench = Bench(GymEnv("tests.toys:Mistaken-v0", {"mistake": "nothing"}), 1)
    bench.worker.pump(b"\0")
    bench.act({0: 1})
    assert bench.take() == [b"\0", b"\0"]
    assert bench.slots.reward[0] == 1.0
