import os
import select
import signal
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest

from envs.gym.adapter import GymEnv
from envs.process.restarts import REFILL_SECONDS, Budget, InstanceFailed
from tests.envs.audit import Audit
from tests.envs.making import alive, gym_manager


def faulty(fault, **kwargs):
    return GymEnv("tests.toys:Faulty-v0", {"fault": fault, **kwargs})


def worker_ids():
    lines = {child.pid: " ".join(child.cmdline() or []) for child in psutil.Process().children()}
    return {pid for pid, line in lines.items() if "resource_tracker" not in line and "keeper.py" not in line}


class Trigger:
    """Chooses action 4 once for each agent in `once`, and harmless ones else."""

    def __init__(self, *once):
        self.once = list(once)

    def __call__(self, agent, step):
        if agent in self.once:
            self.once.remove(agent)
            return 4
        return agent % 4


@pytest.mark.parametrize(
    ("fault", "workers", "lost"), [("step", 2, [2]), ("reset", 2, [2]), ("kill", 4, [2]), ("kill", 2, [2, 3])]
)
def test_what_fails_is_restarted_and_only_its_own_rows_are_lost(fault, workers, lost):
    length = 1 if fault == "reset" else None  # so that the reset comes straight after the action that sets it off
    with gym_manager(faulty(fault, length=length), 4, 7, workers=workers) as manager:
        manager.start()
        audit = Audit(manager, 7, Trigger(2), length, bad_reset=1 if fault == "reset" else None)
        audit.until(lambda: audit.lost and min(audit.counts.values()) >= 300)
        assert audit.lost == lost
        fault_news, restart_news = manager.events
        assert (fault_news.kind, fault_news.instance) == ("fault", 2)
        assert "Restart 1 of 10 in 0.25 s." in fault_news.text
        assert ("RuntimeError" in fault_news.text) == (fault in ("step", "reset"))
        assert ("exit status 7" in fault_news.text) == (fault == "kill")
        assert (restart_news.kind, restart_news.instance) == ("restart", 2)


@pytest.mark.parametrize("fault", ["hang", "stop"])
def test_an_instance_that_does_not_answer_in_time_is_restarted(fault, clock):
    with gym_manager(faulty(fault), 3, 7, workers=3, step_timeout=60.0) as manager:
        manager.start()
        audit = Audit(manager, 7, Trigger(1))
        audit.until(lambda: len(audit.open) == 3, skip={0, 2})  # 1 was sent its action, the others wait for theirs
        clock.ahead += 61.0
        audit.until(lambda: audit.lost, skip={0, 2})
        audit.until(lambda: min(audit.counts.values()) >= 300)
        assert audit.lost == [1]
        assert "did not answer within 60 s (env.step_timeout)" in manager.events[0].text


def test_answers_that_nobody_read_for_long_are_not_overdue(clock):
    with gym_manager(faulty("hang"), 2, 7, workers=2, step_timeout=60.0) as manager:
        manager.start()
        audit = Audit(manager, 7)
        audit.until(lambda: min(audit.counts.values()) > 0)
        for link in manager._pool._links:
            assert select.select([link.signals], [], [], 100)[0]
        clock.ahead += 1000.0
        audit.until(lambda: min(audit.counts.values()) >= 20)
        assert audit.lost == []


def test_a_worker_killed_from_outside_is_restarted_and_the_others_go_on_meanwhile():
    with gym_manager(faulty("step"), 3, 7, workers=3) as manager:
        manager.start()
        audit = Audit(manager, 7)
        audit.until(lambda: min(audit.counts.values()) >= 10)
        victim = manager._pool._links[1].process
        os.kill(victim.pid, signal.SIGKILL)
        audit.until(lambda: bool(audit.lost))
        audit.order.clear()
        audit.until(lambda: 1 in audit.order)
        assert audit.lost == [1]
        assert audit.order.count(0) > 5
        assert audit.order.count(2) > 5


def test_a_traceback_is_told_in_full_only_once():
    with gym_manager(faulty("step", length=1), 1, 7) as manager:
        manager.start()
        audit = Audit(manager, 7, Trigger(0, 0), length=1)
        audit.until(lambda: audit.lost == [0, 0])
        faults = [events.text for events in manager.events if events.kind == "fault"]
        assert ["the game has crashed" in text for text in faults] == [True, False]
        assert "Restart 2 of 10 in 0.5 s." in faults[1]


def test_a_number_that_is_none_restarts_its_instance_alone_by_name():
    env = GymEnv("tests.toys:Odd-v0", {"where": "observation"})
    with gym_manager(env, 2, 7, workers=2, restarts=100) as manager:
        manager.start()
        lost = 0
        while lost < 3:
            ready = manager.recv(200.0)["Odd-v0"]
            lost += len(ready.lost)
            agents = ready.decisions.agent
            assert np.isfinite(ready.decisions.observations[0]).all()
            manager.send("Odd-v0", agents, np.zeros((len(agents), 0)), np.zeros((len(agents), 1), np.int32))
        texts = [events.text for events in manager.events if events.kind == "fault"]
        assert "behavior 'Odd-v0': observation 'observation' at [1] is nan, where only finite" in texts[0]
        assert texts[0].startswith("Instance ")
        assert "Traceback" not in texts[0]


@pytest.mark.parametrize(("fault", "words"), [("step", "the game has crashed"), ("kill", "exit status 7")])
def test_a_spent_budget_ends_with_the_envs_own_traceback(fault, words):
    with gym_manager(faulty(fault), 2, 7, workers=2, restarts=1) as manager:
        manager.start()
        trigger = Trigger()
        audit = Audit(manager, 7, trigger)
        audit.until(lambda: audit.counts[0] > 0)  # the other one is under way, however long its start has taken
        trigger.once += [1, 1, 1]
        with pytest.raises(InstanceFailed, match=f"(?s)Instance 1 failed once more than its 1 restarts.*{words}"):
            audit.until(lambda: False)
        assert audit.lost == [1]
        assert audit.counts[0] > 0


@pytest.mark.parametrize(("fault", "workers", "gone"), [("step", 2, [1]), ("kill", 4, [1])])
def test_an_instance_beyond_its_budget_is_left_out_while_enough_others_live(fault, workers, gone):
    with gym_manager(faulty(fault), 4, 7, workers=workers, restarts=1, min_instances=2) as manager:
        manager.start()
        audit = Audit(manager, 7, Trigger(1, 1))
        audit.until(lambda: manager.retired.any())
        assert np.flatnonzero(manager.retired).tolist() == gone
        others = [agent for agent in range(4) if agent not in gone]
        before = dict(audit.counts)
        audit.until(lambda: min(audit.counts[agent] - before[agent] for agent in others) >= 100)
        assert [audit.counts[agent] for agent in gone] == [before[agent] for agent in gone]
        assert sorted(audit.lost) == sorted(2 * gone)
        reported = [events.text for events in manager.events if "is left out" in events.text]
        assert len(reported) == len(gone)
        assert "Instance 1 failed once more than its 1 restarts (env.restarts) allow, and is left out" in reported[-1]
        assert f"the other {len(others)} go on" in reported[-1]


def test_instances_that_die_with_their_worker_once_too_often_are_left_out_with_it():
    with gym_manager(faulty("kill"), 4, 7, workers=2, restarts=1, min_instances=2) as manager:
        manager.start()
        trigger, delivered = Trigger(1, 1), 0
        while delivered < 100:
            agents = manager.recv(200.0)["Faulty-v0"].decisions.agent
            actions = np.array([[trigger(agent, 0)] for agent in agents.tolist()], np.int32).reshape(-1, 1)
            manager.send("Faulty-v0", agents, np.zeros((len(agents), 0), np.float32), actions)
            delivered += len(agents) if manager.retired.any() else 0
        assert manager.retired.tolist() == [True, True, False, False]
        assert [link.process.is_alive() for link in manager._pool._links] == [False, True]


def test_too_few_that_live_end_the_run():
    with gym_manager(faulty("step"), 3, 7, workers=3, restarts=0, min_instances=2) as manager:
        manager.start()
        audit = Audit(manager, 7, Trigger(1))
        audit.until(lambda: manager.retired.any())
        audit.choose = Trigger(2)
        with pytest.raises(InstanceFailed, match="Instance 2 failed once more than its 0 restarts"):
            audit.until(lambda: False)


def test_a_budget_backs_off_and_refills_slowly():
    budget = Budget(5, 2, 2)
    assert [budget.spend(0, 0.0) for _ in range(6)] == [(1, 0.25), (2, 0.5), (3, 1.0), (4, 2.0), (5, 4.0), None]
    assert budget.spend(1, 0.0) == (1, 0.25)
    assert budget.spend(1, REFILL_SECONDS) == (1, 0.25)
    budget = Budget(50, 1, 1)
    assert [budget.spend(0, 0.0) for _ in range(10)][-1] == (10, 10.0)


def test_no_process_is_left_after_close():
    before = worker_ids()
    with gym_manager(faulty("hang"), 3, 7, workers=3) as manager:
        manager.start()
        audit = Audit(manager, 7, Trigger(1))
        audit.until(lambda: audit.counts[0] > 5 and audit.counts[2] > 5)
        os.kill(manager._pool._links[2].process.pid, signal.SIGSTOP)
        assert len(worker_ids() - before) == 3
    assert worker_ids() == before
    manager.close()


PARENT = """
import sys, threading, time, numpy as np
from envs.gym.adapter import GymEnv
from tests.envs.making import gym_manager
def main():
    manager = gym_manager(GymEnv("tests.toys:Faulty-v0", {"fault": "hang"}), 3, 7, workers=3)
    manager.start()
    got = 0
    while got < 3:
        agents = manager.recv(None)["Faulty-v0"].decisions.agent
        got += len(agents)
        hang = np.where(agents == 0, 4, 0)[:, None]
        manager.send("Faulty-v0", agents[agents < 2], np.zeros((1, 0)), hang[agents < 2])
    print(*[link.process.pid for link in manager._pool._links], flush=True)
    time.sleep(60)
if __name__ == "__main__":
    if sys.argv[1] == "main":
        main()
    else:
        threading.Thread(target=main).start()
"""


@pytest.mark.parametrize("thread", ["main", "other"])
def test_no_worker_outlives_a_parent_that_was_killed(tmp_path, thread):
    main = tmp_path / "parent.py"
    main.write_text(PARENT)
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    parent = subprocess.Popen([sys.executable, str(main), thread], stdout=subprocess.PIPE, text=True, env=environment)
    pids = [int(pid) for pid in parent.stdout.readline().split()]
    assert len(pids) == 3
    assert all(psutil.pid_exists(pid) for pid in pids)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    for _ in range(600):  # so many that only one that stays is still there
        left = [pid for pid in pids if psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE]
        if not left:
            break
        time.sleep(0.1)
    assert left == []


def games(folder):
    """The processes that `Parent` envs have started, two each."""
    return {int(each.name) for each in folder.iterdir() if each.name.isdigit()}


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere as far as sessions and environments can be read")
@pytest.mark.parametrize("end", ["kill", "hang"])
def test_what_an_env_has_started_ends_with_its_worker_whatever_ends_that(end, clock, tmp_path):
    with gym_manager(GymEnv("tests.toys:Parent-v0", {"pids": str(tmp_path)}), 2, 7, workers=2) as manager:
        manager.start()
        audit = Audit(manager, 7, Trigger(*[1] * (end == "hang")))
        audit.until(lambda: len(audit.open) == 2, skip={0})
        workers = [link.process.pid for link in manager._pool._links]
        living = filter(psutil.pid_exists, games(tmp_path))  # the first look's are gone
        parents = {pid: psutil.Process(pid).ppid() for pid in living}
        of_worker = [[pid for pid, parent in parents.items() if parent == worker] for worker in workers]
        assert [len(each) for each in of_worker] == [2, 2]
        if end == "kill":
            os.kill(workers[1], signal.SIGKILL)
        clock.ahead += 1000.0 * (end == "hang")
        audit.until(lambda: bool(audit.lost), skip={0})
        assert not any(map(alive, of_worker[1]))
        assert all(map(psutil.pid_exists, of_worker[0]))
    assert not any(map(alive, games(tmp_path)))
