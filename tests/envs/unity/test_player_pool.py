import os
import signal

import numpy as np
import psutil
import pytest

from envs.api import InstanceFailed
from envs.spec import UserError
from tests.envs.making import unity_manager

BASIC = "env=basic"


def turn(manager, timeout=200.0):
    """One receipt, all actions 2 (to the right); what was ready."""
    received = manager.recv(timeout)
    assert received, f"nothing came; events: {list(manager.events)}"
    for behavior, ready in received.items():
        count = len(ready.decisions.agent)
        manager.send(
            behavior, ready.decisions.agent, np.zeros((count, 0), np.float32), np.full((count, 1), 2, np.int32)
        )
    return received


def turns(manager):
    """Turns without end."""
    while True:
        turn(manager)


def faults(manager):
    return [events.text for events in manager.events if events.kind == "fault"]


def players_of(manager):
    return [player.pid for player in manager._players.of if player is not None]


def test_several_players_step_side_by_side(tmp_path):
    with unity_manager(tmp_path / "logs", 2, (BASIC, "agents=3")) as manager:
        manager.start()
        seen = set()
        while manager.samples.min() < 60:
            for ready in turn(manager).values():
                seen |= set(zip(ready.decisions.instance.tolist(), ready.decisions.agent.tolist()))
        assert len(seen) == 6  # an agent's number is given out again
        assert manager.specs["Basic-v0"].branches == (3,)
        pids = players_of(manager)
        assert sorted(path.name for path in (tmp_path / "logs").iterdir()) == [
            *("player_0.log", "player_0.out", "player_1.log", "player_1.out")
        ]
        assert (manager.busy_seconds > 0).all()
    assert not any(psutil.pid_exists(pid) for pid in pids)


def test_a_killed_player_is_started_anew_and_the_other_never_notices(tmp_path):
    with unity_manager(tmp_path, 2, (BASIC,)) as manager:
        manager.start()
        while manager.samples.min() < 10:
            turn(manager)
        os.kill(players_of(manager)[0], getattr(signal, "SIGKILL", signal.SIGTERM))
        lost, others = [], 0
        while not any(events.kind == "restart" for events in manager.events):
            for ready in turn(manager).values():
                lost += ready.lost.tolist()
                others += int((ready.results.instance == 1).sum())
        assert len(lost) == 1
        assert others > 0
        before = manager.samples.copy()
        while (manager.samples - before).min() < 10:
            turn(manager)
        (fault,) = faults(manager)
        assert "Instance 0: its process was killed by SIGKILL; the system may have been out of memory" in fault
        assert "connects to port" in fault  # its log's last lines
        assert "Restart 1 of 10" in fault


@pytest.mark.parametrize(
    ("fault", "reported"),
    [
        ("die:20", "its process ended (exit status 3)"),
        ("hang:20", "it did not answer within 5 s (env.step_timeout)"),
        ("nan:20", "Basic-v0"),
        ("garbage:20", "no message of the protocol"),
        ("quit:20", "its process ended (exit status 0)"),
        ("agents:20", "it sent 200,00"),
        ("behaviors:20", "it sent 300 behaviors in one message, not at most 64"),
        ("statistics:20", "it sent more than 10,000 statistics in one message"),
        ("spec:20", "it sent 21 floats of shape [21], not 20 finite floats"),
    ],
)
def test_one_player_fails_alone_and_is_named(fault, reported, tmp_path):
    words = (BASIC, f"fault={fault}", f"once={tmp_path / 'claimed'}")
    seconds = 5.0 if "hang" in fault else 100.0
    with unity_manager(tmp_path / "logs", 2, words, step_timeout=seconds) as manager:
        manager.start()
        while not any(events.kind == "restart" for events in manager.events):
            turn(manager)
        before = manager.samples.copy()
        while (manager.samples - before).min() < 30:
            turn(manager)
        (text,) = faults(manager)
        assert reported in text


def test_a_player_that_dies_before_it_connects_is_told_at_once_with_its_log(tmp_path):
    with unity_manager(tmp_path, 2, ("env=NoSuch-v0",)) as manager:
        manager.start()
        with pytest.raises(
            UserError, match=r"exit status 2\)(.|\n)*Unknown environment id 'NoSuch-v0'(.|\n)*usual causes"
        ):
            manager.recv(200)


def test_one_player_that_never_connects_holds_up_nobody(tmp_path, clock):
    words = (BASIC, "fault=hang:0", f"once={tmp_path / 'claimed'}")
    with unity_manager(tmp_path / "logs", 2, words, connect_timeout=100.0, step_timeout=1000.0) as manager:
        manager.start()
        while manager.samples.max() < 10:
            turn(manager, 100)
        clock.ahead += 101.0
        while manager.samples.min() < 10:
            turn(manager)
        (text,) = faults(manager)
        assert "it did not connect within 100 s (env.connect_timeout)" in text


def test_the_budget_of_restarts_ends_the_run_by_name(tmp_path):
    with unity_manager(tmp_path, 1, (BASIC, "fault=die:10"), restarts=1) as manager:
        manager.start()
        with pytest.raises(
            InstanceFailed, match=r"Instance 0 failed once more than its 1 restarts(.|\n)*exit status 3"
        ):
            turns(manager)


def test_a_player_beyond_its_budget_is_left_out_while_enough_others_live(tmp_path):
    words = (BASIC, "fault=die:20", f"once={tmp_path / 'claimed'}")
    with unity_manager(tmp_path / "logs", 2, words, restarts=0, min_instances=1) as manager:
        manager.start()
        while not manager.retired.any():
            turn(manager)
        gone = int(manager.retired.argmax())
        before = manager.samples.copy()
        while manager.samples[1 - gone] - before[1 - gone] < 50:
            turn(manager)
        assert manager.samples[gone] == before[gone]
        assert players_of(manager)[0] is not None
        assert len(players_of(manager)) == 1
        (reported,) = faults(manager)
        assert f"Instance {gone} failed once more than its 0 restarts" in reported
        assert "is left out; the other 1 go on" in reported


def test_each_start_has_a_seed_of_its_own_also_after_a_resume(tmp_path):
    states = []
    for _ in range(2):
        resume = states[-1] if states else None
        with unity_manager(tmp_path, 2, (BASIC,), resume=resume) as manager:
            manager.start()
            states.append(manager.state())
    assert [state["begun"] for state in states] == [[1, 1], [2, 2]]


def test_one_process_drives_many_players(tmp_path):
    with unity_manager(tmp_path, 4, (BASIC,)) as manager:
        manager.start()
        while manager.samples.min() < 5:
            turn(manager)
        alive = [child for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE]
        lines = [" ".join(child.cmdline()) for child in alive]
        assert len([line for line in lines if "resource_tracker" not in line and "keeper.py" not in line]) == 1
        assert all(psutil.Process(pid).ppid() != os.getpid() for pid in players_of(manager))


def test_two_behaviors_one_of_them_late(tmp_path):
    with unity_manager(tmp_path, 1, (BASIC, "late=Late:6")) as manager:
        manager.start()
        turn(manager)
        assert set(manager.specs) == {"Basic-v0"}
        while "Late" not in manager.specs:
            turn(manager)
        ready = {}
        while "Late" not in ready or not len(ready["Late"].results.agent):
            ready = turn(manager)
