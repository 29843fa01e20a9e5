import json
import os
import socket
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageSequence

from envs.gym import worker_pool
from envs.gym.adapter import GymEnv
from envs.gym.config import GymConfig
from envs.spec import UserError
from tests.envs.audit import Audit
from tests.envs.making import gym_manager

ORACLE = "tests.toys:Oracle-v0"


def oracles(**kwargs):
    return GymEnv(ORACLE, kwargs, time_scale=0)


@pytest.mark.parametrize(("instances", "workers"), [(6, 2), (3, 3)])
def test_closings_and_decisions_pair_up_exactly_for_every_agent(instances, workers):
    with gym_manager(oracles(), instances, 7, workers=workers) as manager:
        assert list(manager.start()) == ["Oracle-v0"]
        assert manager.layout == f"{instances} instances in {workers} workers"
        audit = Audit(manager, 7)
        audit.until(lambda: min(audit.counts.values()) >= 700)
        assert manager.samples.tolist() == list(audit.counts.values())
        assert min(audit.endings.values()) > 100
        assert audit.lost == []
        assert not manager.events


def test_instances_that_wait_for_an_action_hold_up_no_other():
    with gym_manager(oracles(), 4, 7, workers=2) as manager:
        manager.start()
        audit = Audit(manager, 7)
        audit.until(lambda: len(audit.counts) - list(audit.counts.values()).count(0) == 4)
        before = dict(audit.counts)
        audit.until(lambda: min(audit.counts[1], audit.counts[3]) >= before[1] + 500, skip=(0, 2))
        assert audit.counts[0] <= before[0] + 1
        assert audit.counts[2] <= before[2] + 1


def test_a_step_that_blocks_holds_up_no_other_worker():
    def choose(agent, step):
        return 4 if agent == 0 else 1

    with gym_manager(GymEnv("tests.toys:Faulty-v0", {"fault": "hang"}), 3, 7, workers=3) as manager:
        manager.start()
        audit = Audit(manager, 7, choose)
        audit.until(lambda: min(audit.counts[1], audit.counts[2]) >= 500)
        assert audit.counts[0] == 0
        assert audit.lost == []


def test_recv_returns_empty_when_its_time_is_up():
    with gym_manager(oracles(), 1, 7) as manager:
        manager.start()
        assert manager.recv(200.0)
        assert manager.recv(0) == {}
        assert manager.recv(0.01) == {}


def test_recv_returns_early_when_what_it_watches_can_be_read():
    here, there = socket.socketpair()
    with here, there, gym_manager(oracles(), 1, 7) as manager:
        manager.start()
        manager.watch(here)
        assert manager.recv(200.0)
        there.send(b"xyz")
        assert manager.recv(60.0) == {}
        with pytest.raises(BlockingIOError):
            here.recv(1)
        there.close()
        assert manager.recv(60.0) == {}
        assert manager.recv(0) == {}


def test_busy_seconds_are_the_durations_over_the_time_scale():
    with gym_manager(GymEnv(ORACLE, {"duration": 0.02}, time_scale=10.0), 4, 7) as manager:
        manager.start()
        assert manager.layout == "4 instances in 1 workers"
        audit = Audit(manager, 7)
        audit.until(lambda: min(audit.counts.values()) >= 20)
        durations = manager.samples + np.array([audit.episode[i] + 1 for i in range(4)])
        np.testing.assert_allclose(manager.busy_seconds, durations * 0.002, atol=0.0041)


def test_workers_know_no_torch():
    pytest.importorskip("torch")
    with gym_manager(GymEnv("tests.toys:Telltale-v0"), 2, 7, workers=2) as manager:
        manager.start()
        seen = []
        while len(seen) < 2:
            seen += manager.recv(200.0)["Telltale-v0"].decisions.observations[0].tolist()
        assert [row[0] for row in seen] == [0, 0]
        assert len({row[1] for row in seen} | {os.getpid()}) == 3


def test_the_received_arrays_belong_to_the_receiver():
    with gym_manager(oracles(length=50), 1, 7) as manager:
        manager.start()
        first = manager.recv(200.0)["Oracle-v0"].decisions
        kept = first.observations[0].copy()
        for _ in range(5):
            manager.send("Oracle-v0", first.agent, np.zeros((1, 0), np.float32), np.ones((1, 1), np.int32))
            manager.recv(200.0)
        np.testing.assert_array_equal(first.observations[0], kept)


def test_a_resumed_manager_goes_on_with_the_next_episodes():
    with gym_manager(oracles(), 3, 7) as manager:
        manager.start()
        audit = Audit(manager, 7)
        audit.until(lambda: len(audit.episode) == 3 and min(audit.episode.values()) >= 3)
        state = json.loads(json.dumps(manager.state()))
    assert state == {"begun": [audit.episode[i] + 1 for i in range(3)], "actions": None}
    with gym_manager(oracles(), 4, 7, resume=state) as manager:
        manager.start()
        resumed = Audit(manager, 7)
        resumed.episode = {i: begun - 1 for i, begun in enumerate(state["begun"])}
        resumed.until(lambda: min(resumed.counts.values()) >= 20)


@pytest.mark.parametrize("record", [False, True])
def test_a_picture_is_a_whole_episode_of_instance_0(record, tmp_path):
    with gym_manager(oracles(), 2, 7, record_actions=record) as manager:
        manager.start()
        audit = Audit(manager, 7)
        manager.request_picture(tmp_path / "pictures" / "7.gif")
        assert manager.picture is None
        audit.until(lambda: manager.picture is not None)
        with Image.open(manager.picture) as gif:
            frames = [np.array(frame.convert("RGB")) for frame in ImageSequence.Iterator(gif)]
        steps = [int(frame[0, 0, 0]) for frame in frames]
        assert steps == list(range(len(steps)))
        assert [int(frame[0, 0, 1]) for frame in frames] == [0] + [(step % 4) + 1 for step in steps[:-1]]
        assert {frame.shape for frame in frames} == {(4, 6, 3)}
        audit.until(lambda: audit.counts[0] >= 100)
        assert not [event for event in manager.events if event.kind != "note"]


def test_a_picture_lands_where_it_was_asked_for_though_the_env_changes_the_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with gym_manager(GymEnv("tests.toys:Oracle-v0", {}, ("tests.toys:MovesAway",)), 1, 7) as manager:
        manager.start()
        audit = Audit(manager, 7)
        manager.request_picture(Path("pictures/7.gif"))
        audit.until(lambda: manager.picture is not None)
    assert (tmp_path / "pictures/7.gif").is_file()


def test_rendering_that_fails_is_told_once_and_harms_nobody(tmp_path):
    with gym_manager(GymEnv("tests.toys:Unpicturable-v0"), 2, 7) as manager:
        manager.start()
        audit = Audit(manager, 7)
        manager.request_picture(tmp_path / "no.gif")
        audit.until(lambda: len(manager.events) > 0)
        manager.request_picture(tmp_path / "no.gif")
        audit.until(lambda: min(audit.counts.values()) >= 300)
        (events,) = manager.events
        assert events.kind == "fault"
        assert "no display" in events.text
        assert manager.picture is None
        assert audit.lost == []


@pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
def test_a_process_that_is_killed_while_it_draws_is_reported_with_its_signal(tmp_path):
    with gym_manager(GymEnv("tests.toys:Undrawable-v0"), 1, 7) as manager:
        manager.start()
        audit = Audit(manager, 7)
        manager.request_picture(tmp_path / "no.gif")
        audit.until(lambda: any(each.kind == "fault" for each in manager.events))
        assert "its process was killed by SIGKILL" in manager.events[-1].text


def test_hybrid_actions_and_masks_go_through_the_slots():
    with gym_manager(GymEnv("tests.toys:Mixed-v0"), 2, 7) as manager:
        spec = manager.start()["Mixed-v0"]
        assert (spec.masked, spec.mask_size, spec.continuous_size, spec.branches) == (True, 7, 2, (3, 2, 2))
        rewards = []
        while len(rewards) < 50:
            said = manager.recv(200.0)["Mixed-v0"]
            rewards += said.results.reward.tolist()
            pick = said.decisions.mask[:, :3].argmax(1)
            discrete = np.stack([pick, pick * 0, pick * 0 + 1], axis=1)
            continuous = np.tile(np.float32([0, 0.5]), (len(pick), 1))
            manager.send("Mixed-v0", said.decisions.agent, continuous, discrete)
        assert set(rewards) == {1.0}
        assert not manager.events


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"instances": 0}, "env.instances=0 must be above 0"),
        ({"instances": 2, "workers": 3}, "env.workers=3 is more than env.instances=2"),
        ({"instances": 2, "workers": 0}, "env.workers=0 must be above 0"),
        ({"instances": 300, "workers": 1}, "drives at most 256"),
    ],
)
def test_impossible_numbers_are_refused(arguments, words):
    with pytest.raises(UserError, match=words):
        GymConfig(id=ORACLE, **arguments).check()


@pytest.mark.parametrize(
    ("env", "words"),
    [
        (GymEnv("tests.toys:Faulty-v0", {"fault": "make"}), "no licence for this game"),
        (GymEnv("tests.toys:Faulty-v0", {"fault": "always"}), "the level is missing"),
        (GymEnv(ORACLE, {"no_such": 1}), "no_such"),
        (GymEnv("Oracel-v0"), "Unknown environment id 'Oracel-v0'"),
        (GymEnv("tests.toys:Oracle"), "a class or a function, .* write env=factory env.id=tests.toys:Oracle"),
    ],
    ids=["make", "reset", "kwargs", "id", "class"],
)
def test_an_env_that_cannot_start_is_refused_at_once_with_its_own_error(env, words, monkeypatch):
    monkeypatch.setattr(worker_pool, "START_SECONDS", 1e6)  # nothing waits for that to pass
    with gym_manager(env, 2, 1) as manager, pytest.raises(UserError, match=words):
        manager.start()


def test_an_action_for_an_agent_that_does_not_wait_is_refused():
    with gym_manager(oracles(), 2, 7, workers=1) as manager:
        manager.start()
        waiting = manager.recv(200.0)["Oracle-v0"].decisions.agent[:1]
        action = (np.zeros((1, 0), np.float32), np.ones((1, 1), np.int32))
        manager.send("Oracle-v0", waiting, *action)
        with pytest.raises(ValueError, match=rf"agents \[{waiting[0]}\] do not wait"):
            manager.send("Oracle-v0", waiting, *action)
