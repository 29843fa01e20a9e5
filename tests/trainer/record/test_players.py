"""Recording agents of Unity players, for which a manager stands in."""

import numpy as np
import pytest

from envs.spec import BehaviorSpec, StepResults
from envs.unity.config import UnityConfig
from envs.unity.demo.reader import read_demo
from tests.trainer.several import LENGTH, SPECS, Several
from trainer.record.__main__ import main
from trainer.record.episodes import record_players


class Cut(Several):
    """Instance 0's episodes are cut off, the other's are over."""

    def _ready(self, name):
        ready = super()._ready(name)
        results = ready.results
        cut = results.terminated & (results.instance == 0)
        finals = np.full((int(cut.sum()), 2), self.steps, np.float32)
        results = results._replace(terminated=results.terminated & ~cut, truncated=cut, final_observations=(finals,))
        return ready._replace(results=results._replace(final_mask=np.zeros((len(finals), 0), bool)))


class Losing(Several):
    """Instance 1 fails in its third step, and starts anew; only instance 1's episodes are short of that."""

    def _ready(self, name):
        ready = super()._ready(name)
        if self.steps != 2:
            return ready
        self._lengths[name][1] = 0
        kept = ready.results.instance == 0
        results = StepResults(
            *(part[kept] if isinstance(part, np.ndarray) and len(part) == 2 else part for part in ready.results)
        )
        return ready._replace(results=results, lost=np.array([1]))


def constant(spec: BehaviorSpec):
    """Takes the choice that the larger observation says, told beside the observations that it was given."""
    seen = []

    def act(decisions, begun):
        seen.append((decisions.agent.copy(), decisions.observations[0].copy()))
        choices = (decisions.observations[0][:, :1] > decisions.observations[0][:, 1:]).astype(np.int32)
        return np.zeros((len(choices), 0), np.float32), choices

    return act, seen


def recorded(manager, episodes, stopped=lambda: False):
    act, seen = constant(SPECS["Early"])
    return list(record_players(manager, lambda spec: act, episodes, stopped)), seen


def test_steps_are_kept_by_agent_until_its_episode_is_over():
    manager = Several(late=None)
    episodes, seen = recorded(manager, 4)
    assert [len(each.demonstration.rewards) for each in episodes] == [LENGTH] * 4
    for place, each in enumerate(episodes):
        first, agent = place // 2 * LENGTH, place % 2
        mine = np.stack([observations[agent] for _, observations in seen[first : first + LENGTH]])
        np.testing.assert_array_equal(each.demonstration.observations[0], mine)
        np.testing.assert_array_equal(each.demonstration.discrete[:, 0], mine[:, 0] > mine[:, 1])
        assert each.demonstration.rewards.tolist() == [1.0] * LENGTH
        assert each.demonstration.terminated
        assert len(each.demonstration.final_observations[0]) == 0
        assert each.spec == SPECS["Early"]


def test_every_instance_records_its_share():
    manager = Several(late=None)
    assert len(recorded(manager, 3)[0]) == 3
    assert manager.steps == 2 * LENGTH + 1


def test_an_episode_that_was_cut_off_keeps_its_last_observation():
    episodes = [each.demonstration for each in recorded(Cut(late=None), 4)[0]]
    assert [each.terminated for each in episodes] == [False, True, False, True]
    assert [each.final_observations[0].tolist() for each in episodes] == [[[5, 5]], [], [[10, 10]], []]
    assert [each.final_mask.shape for each in episodes] == [(1, 0), (0, 0)] * 2


def test_a_lost_episode_is_played_again():
    manager = Losing(late=None)
    episodes, seen = recorded(manager, 2)
    assert [len(each.demonstration.rewards) for each in episodes] == [LENGTH] * 2
    assert manager.steps == LENGTH + 1 + 2
    np.testing.assert_array_equal(episodes[1].demonstration.observations[0][0], seen[2][1][1])


def test_a_stop_keeps_what_was_whole():
    manager = Several(late=None)
    assert len(recorded(manager, 9, lambda: manager.steps >= LENGTH + 3)[0]) == 2


@pytest.fixture
def demo(tmp_path, monkeypatch):
    monkeypatch.setattr(UnityConfig, "check", lambda env: None)
    monkeypatch.setattr(UnityConfig, "make_manager", lambda *_: Several(late=None))
    return tmp_path / "new.demo"


def test_a_bot_plays_players_row_by_row(demo, capsys):
    assert main(["env=unity", "player=tests.trainer.bots:for_players", "episodes=2", f"to={demo}"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"{demo}: 2 episodes, means: reward 5, length 5"
    for each in read_demo(demo).episodes:
        np.testing.assert_array_equal(each.discrete[:, 0], each.observations[0][:, 0] > each.observations[0][:, 1])


def test_an_answer_of_another_size_is_refused(demo, capsys):
    assert main(["env=unity", "player=tests.trainer.bots:wrong_size", f"to={demo}"]) == 2
    error = capsys.readouterr().err
    said = "player=tests.trainer.bots:wrong_size returned ([0.0, 1.0], [0])"
    assert error == f"error: {said}, not 0 continuous actions and 1 discrete ones\n"
    assert not demo.exists()


def test_a_second_behavior_is_refused_by_name_and_whole_episodes_are_kept(demo, capsys, monkeypatch):
    monkeypatch.setattr(UnityConfig, "make_manager", lambda *_: Several(late=7))
    assert main(["env=unity", "player=tests.trainer.bots:for_players", "episodes=20", f"to={demo}"]) == 2
    out, error = capsys.readouterr()
    assert f"ended by an error after 2 of 20 episodes: {demo} holds the complete episodes" in out
    assert "a .demo file holds one behavior, but 'Early' and 'Late' appeared" in error
    assert len(read_demo(demo).episodes) == 2
