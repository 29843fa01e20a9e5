"""Players for tests of recording, by import path."""

import numpy as np

HEARD = []
"""What the factories were called with."""


def right(env, rng):
    HEARD.append((env, rng))
    return lambda observation: 2


def wild(env, rng):
    return lambda observation: 7


def any_allowed(env, rng):
    """Plays `Mixed`: a choice that its mask allows, and an aim beyond its bounds."""
    return lambda observation: {
        "aim": np.float32([0.25, 9]),
        "pick": (np.flatnonzero(env.unwrapped.allowed)[0] + 1, [0, 1]),
    }


def no_bot(env, rng):
    return 3


def takes_one(env):
    return right(env, None)


def for_players(spec, rng):
    """Plays agents of players: the branch of the larger observation."""
    assert spec.name == "Early"

    def act(observations, mask):
        return np.zeros(0), [int(observations[0][0] > observations[0][1])]

    return act


def wrong_size(spec, rng):
    return lambda observations, mask: ([0.0, 1.0], [0])


NUMBER = 3
