"""Sides, who plays as what, and which matches are rated."""

from __future__ import annotations

from trainer.selfplay.matches import LATEST, LEARNING, Match, Matches


class Game:
    """One instance with two teams of `Duelist`."""

    def __init__(self, *draws: int) -> None:
        self.matches, self.draws = Matches(), iter(draws)
        self.matches.see("Duelist", [1, 0])

    def begin(self, team, agents=1, instance=0):
        self.matches.next_message()
        begun = [self.matches.begin("Duelist", instance, team, lambda: next(self.draws)) for _ in range(agents)]
        return begun[0][0]

    def both(self, agents=1):
        self.matches.next_message()
        begun = [
            [self.matches.begin("Duelist", 0, team, lambda: next(self.draws))[0] for _ in range(agents)]
            for team in (0, 1)
        ]
        return begun[0][0], begun[1][0]


def test_one_team_learns_and_all_agents_of_the_other_act_as_one_opponent_until_their_episodes_end():
    game = Game(3, 5)
    own, other = game.both(agents=2)
    assert (own.role, other.role, other.founders) == (LEARNING, 3, 2)
    game.matches.end(other, 1, 1, 0.0)
    late = game.begin(1)
    assert late is other  # a teammate plays on: who joins it acts as it does
    game.matches.end(other, 1, 1, 0.0)
    assert game.begin(1).role == 5  # the first to begin once all who began together have ended draws anew


def test_a_team_is_learning_or_not_from_its_next_episode_on():
    game = Game(3, 4)
    own, other = game.both()
    game.matches.turn = 1
    assert game.matches.begin("Duelist", 0, 0, lambda: 9)[0] is own
    game.matches.end(own, 2, 2, 1.0)
    game.matches.end(other, 1, 1, -1.0)
    own, other = game.both()
    assert (own.role, other.role) == (3 + 1, LEARNING)


def test_a_match_is_rated_if_there_was_one_opponent_from_begin_to_end():
    game = Game(3, LATEST, 4, 5)
    for value in (1.0, 0.0):
        own, other = game.both()
        game.matches.end(other, 1, 1, -value)
        game.matches.end(own, 1, 1, value)
    own, other = game.both()
    game.matches.end(other, 1, 1, 1.0)
    game.begin(1)  # another opponent, while the own team's episode goes on
    game.matches.end(own, 1, 1, -2.0)
    scores = [match.score for match in game.matches.finished]
    assert game.matches.finished[0] == Match("Duelist", ("Duelist", 3), 1.0)
    assert [match.opponent for match in game.matches.finished[1:]] == [None, None]
    assert scores == [1.0, 0.5, 0.0]


def test_a_match_ends_with_the_last_of_the_team_and_not_if_that_was_lost():
    game = Game(3, 3)
    own, _ = game.both(agents=2)
    game.matches.end(own, 1, 1, -1.0)
    assert not game.matches.finished
    game.matches.end(own, 1, 1, 1.0)
    assert [match.score for match in game.matches.finished] == [1.0]
    own = game.begin(0)
    game.matches.end(own, 1, 1, None)
    assert len(game.matches.finished) == 1


def test_teams_of_several_behaviors_learn_one_after_another():
    matches = Matches()
    matches.see("Keeper", [0])
    matches.see("Striker", [1, 0])
    turns = []
    for matches.turn in range(4):
        turns.append([team for team in matches.teams if matches.learns(*team, instance=0)])
    assert turns == [[("Keeper", 0)], [("Striker", 0)], [("Striker", 1)], [("Keeper", 0)]]


def test_what_was_saved_goes_on():
    game = Game(3, 4)
    own, other = game.both()
    again = Matches()
    again.load_state(game.matches.state())
    again.see("Duelist", [0, 1])
    own, other = again.sides
    assert again.begin("Duelist", 0, 1, lambda: 9)[0] is other
    again.end(own, 1, 1, 1.0)
    assert again.finished == [Match("Duelist", ("Duelist", 3), 1.0)]
