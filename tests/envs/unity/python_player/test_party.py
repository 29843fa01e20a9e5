"""Games of several agents through the whole of Unity's path."""

from collections import Counter

import numpy as np

from tests.envs.making import unity_manager
from tests.envs.playing import Playing

WORDS = ["game=tests.games:Meeting", "behaviors.red_*=Red", "behaviors.*=Other"]
WORDS += ["teams.blue_*=1", "groups.red_*=1", "agents=2"]


def test_agents_of_a_game_have_teams_groups_and_what_is_theirs(tmp_path):
    groups, teams, shared = Counter(), Counter(), []
    with unity_manager(tmp_path, words=WORDS) as games:
        games.start()
        playing = Playing(games)
        while sum(games.samples) < 400:
            for name, said in playing.turn().items():
                groups.update((name, group) for group in said.decisions.group.tolist())
                teams.update((name, team) for team in said.decisions.team.tolist())
                if name == "Red":
                    shared += said.results.group_reward.tolist()
    assert set(teams) == {("Red", 0), ("Other", 0), ("Other", 1)}
    assert len({group for name, group in groups if name == "Red"}) == 2, "each copy of the game has a group"
    assert {group for name, group in groups if name == "Other"} == {0}
    assert set(shared) <= {0.5 * at for at in range(1, 10)}
    ends = Counter()
    for _, name, _, (*_, step, _, action), reward, terminated, truncated, final, _ in playing.log:
        assert reward == 100 * (step + 1) + action
        ends[name, terminated, truncated] += 1
        if truncated:
            assert final[2:] == [step + 1, action]
    assert set(ends) == {
        ("Red", False, False),
        ("Red", True, False),
        ("Other", False, False),
        ("Other", True, False),
        ("Other", False, True),
    }


def test_turns_and_masks_come_through(tmp_path):
    with unity_manager(tmp_path, words=["game=tests.games:Nim"]) as games:
        games.start()
        playing = Playing(games)
        while sum(games.samples) < 150:
            for said in playing.turn().values():
                assert len(said.decisions.agent) <= 1
                left = said.decisions.observations[0][:, 0]
                expected = np.arange(1, 4)[None] <= left[:, None]
                np.testing.assert_array_equal(said.decisions.mask, expected)
    assert {entry[4] for entry in playing.log} > {-1, 2, 0.25}
    assert any(entry[5] for entry in playing.log)


def test_duel_is_played_by_its_name(tmp_path):
    with unity_manager(tmp_path, words=["game=duel"]) as games:
        games.start()
        playing = Playing(games)
        while sum(games.samples) < 60:
            for name, said in playing.turn().items():
                assert name == "Duel"
                assert sorted(said.decisions.team.tolist()) == [0, 1]
