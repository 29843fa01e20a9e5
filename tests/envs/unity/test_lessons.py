"""Lessons of Unity games: what reaches a player, and in which lessons its agents' episodes are played."""

import struct

import numpy as np
import pytest

from envs.spec import Lessons
from envs.unity.python_player.channels import PARAMETERS, statistics
from tests.envs.making import unity_manager
from tests.envs.unity.client import Client, free_port, info, parameters

WALKER = "Walker?team=0"
WIND = {"sampler": "uniform", "min": 0, "max": 1}
LEVELS = [{"value": 1, "until": {"above": 0}}, {"value": 2, "until": {"above": 0}}, {"value": 4}]
FIRST, SECOND = Lessons(0, (0,)), Lessons(1, (1,))


def sent(answer):
    """What an answer sets: by parameter its number, or `sampler`."""
    data, found = answer.unity_input.rl_input.side_channel, {}
    while data:
        (length,) = struct.unpack_from("<i", data, 16)
        content, channel, data = data[20 : 20 + length], data[:16], data[20 + length :]
        if channel == PARAMETERS:
            (size,) = struct.unpack_from("<i", content)
            (kind,) = struct.unpack_from("<i", content, 4 + size)
            value = struct.unpack_from("<f", content, 8 + size)[0] if kind == 0 else "sampler"
            found[content[4 : 4 + size].decode()] = value
    return found


class Game:
    """A player by hand whose agents are answered at once."""

    def __init__(self, manager, port):
        self.manager = manager
        self.client = Client(port, manager)
        self.client.introduce()
        self.first = sent(self.client.ask_for_input())
        self._new = [parameters(WALKER)]

    def say(self, *infos, side_channel=b""):
        """What the manager makes of a message, and what its answer sets."""
        answer = self.client.say({WALKER: list(infos)}, self._new, side_channel)
        self._new = []
        ready = self.manager.recv(100)["Walker"]
        agents = ready.decisions.agent
        self.manager.send("Walker", agents, np.zeros((len(agents), 0)), np.zeros((len(agents), 1), np.int32))
        return ready, sent(answer.get())


@pytest.fixture
def play(tmp_path):
    """Starts a manager in some lessons, with a player."""
    opened = []

    def start(levels, lessons=FIRST):
        port = free_port()
        given = {"level": {"lessons": levels}, "wind": WIND}
        manager = unity_manager(tmp_path, port=port, parameters=given, lessons=lessons)
        opened.append(manager)
        manager.start()
        game = Game(manager, port)
        opened.append(game.client)
        return game

    yield start
    for each in reversed(opened):
        each.close()


def test_a_lesson_reaches_a_player_with_its_next_answer_alone_and_counts_from_the_next_episode_on(play):
    game = play(LEVELS)
    assert game.first == {"level": 1.0, "wind": "sampler"}
    ready, told = game.say(info(1, [0.0]), info(2, [0.0]))
    assert (dict(ready.lessons), told) == ({}, {})
    game.manager.set_lessons(SECOND)
    # Its episode and the next one have begun before the game could hear of the lesson.
    ready, told = game.say(info(1, [0.0], 1.0, done=True), info(3, [0.0]), info(2, [0.0]))
    assert told == {"level": 2.0}
    assert list(ready.lessons.values()) == [FIRST]
    ready, told = game.say(info(3, [0.0], done=True), info(2, [0.0], done=True), info(4, [0.0]))
    assert told == {}
    assert list(ready.lessons.values()) == [FIRST, FIRST]
    ready, _ = game.say(info(4, [0.0], done=True), info(5, [0.0]))
    assert list(ready.lessons.values()) == [SECOND]
    assert ready.lessons.keys() == set(ready.results.agent.tolist())


def test_a_number_counts_for_a_lesson_in_which_all_episodes_began_that_it_may_be_of(play):
    game = play(LEVELS)
    report = statistics({"Wins": 1.0})
    game.say(info(1, [0.0]), info(2, [0.0]), side_channel=report)
    game.manager.set_lessons(SECOND)
    game.say(info(1, [0.0], done=True), info(3, [0.0]), info(2, [0.0]), side_channel=report)
    game.say(info(3, [0.0], done=True), info(4, [0.0]), info(2, [0.0]))
    game.say(info(4, [0.0]), info(2, [0.0]), side_channel=report)
    game.say(info(4, [0.0], done=True), info(2, [0.0]), side_channel=report)
    lessons = [statistic.lessons for statistic in game.manager.take_statistics()]
    assert lessons == [FIRST, FIRST, Lessons(0, (-1,)), SECOND]


def test_a_share_of_episodes_is_drawn_for_a_player_whenever_one_has_ended(play):
    levels = [{"value": 1, "until": {"above": 0}}, {"value": 2, "earlier": 0.5}]
    game = play(levels, Lessons(3, (1,)))
    level, played = game.first["level"], []
    for key in range(40):
        # The next episode begins before the answer to this message.
        ready, told = game.say(*([info(key - 1, [0.0], done=True)] if key else []), info(key, [0.0]))
        played += ready.lessons.values()
        level = told.get("level", level)
    assert {Lessons(3, (0,)), Lessons(3, (1,))} == set(played)
    assert len(played) == 39


def test_without_being_told_the_last_lessons_are_played(play):
    assert play(LEVELS, None).first == {"level": 4.0, "wind": "sampler"}


def test_our_own_player_gives_its_games_what_it_is_sent(tmp_path):
    levels = {"level": {"lessons": LEVELS}}
    words = ("env=tests.toys:Graded-v0",)
    with unity_manager(tmp_path, 1, words, parameters=levels, lessons=FIRST) as manager:
        manager.start()
        shown = []
        while len(shown) < 12:
            for ready in manager.recv(100).values():
                shown += ready.decisions.observations[0][:, 0].tolist()
                agents = ready.decisions.agent
                manager.send("Graded-v0", agents, np.zeros((len(agents), 0)), np.zeros((len(agents), 1), np.int32))
            if len(shown) == 3:
                manager.set_lessons(SECOND)
        assert shown == sorted(shown)
        assert set(shown) == {1.0, 2.0}
