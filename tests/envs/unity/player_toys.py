"""Environments for the tests of our player, and a trainer's side that is a function: `Script`."""

from __future__ import annotations

from collections.abc import Callable

import gymnasium
import numpy as np
from gymnasium import spaces

from envs.unity.protocol.messages import message
from envs.unity.python_player.options import parse
from envs.unity.python_player.serving import Closed, PlayerClient

Answer = Callable[[list], object]


class Pictures(gymnasium.Env):
    """Three kinds of images, drawn anew for each step."""

    observation_space = spaces.Dict(
        rgb=spaces.Box(0, 255, (6, 5, 3), np.uint8),
        grey=spaces.Box(0, 255, (6, 5, 1), np.uint8),
        stack=spaces.Box(0, 255, (4, 6, 5), np.uint8),
    )
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self._observation(), {}

    def step(self, action):
        return self._observation(), 0.0, False, False, {}

    def _observation(self):
        return {
            key: self.np_random.integers(0, 256, box.shape, np.uint8) for key, box in self.observation_space.items()
        }


class Wide(gymnasium.Env):
    """Sends 16 KiB a step, and an episode has ten."""

    observation_space = spaces.Box(-1, 1, (4096,))
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        self.at = 0
        return np.zeros(4096, np.float32), {}

    def step(self, action):
        self.at += 1
        return np.full(4096, 0.5, np.float32), 0.0, self.at == 10, False, {}


class Hybrid(gymnasium.Env):
    """Continuous and discrete actions with a mask, two observations; the reward tells the action."""

    observation_space = spaces.Dict(grid=spaces.Box(0, 255, (2, 3), np.uint8), state=spaces.Box(-1, 1, (4,)))
    action_space = spaces.Dict(
        aim=spaces.Box(np.float32([0, -2]), np.float32([1, 2])),
        pick=spaces.Tuple((spaces.Discrete(3, start=1), spaces.MultiBinary(2))),
    )

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self._observation(), self._info()

    def step(self, action):
        assert self.allowed[action["pick"][0] - 1]
        reward = action["aim"].sum() + 10 * action["pick"][0] + 100 * action["pick"][1].sum()
        end = self.np_random.integers(6)
        return self._observation(), float(reward), bool(end == 0), bool(end == 1), self._info()

    def _observation(self):
        grid = self.np_random.integers(0, 256, (2, 3), np.uint8)
        return {"grid": grid, "state": self.np_random.uniform(-1, 1, 4).astype(np.float32)}

    def _info(self):
        self.allowed = np.array([True, False, True])
        self.allowed[self.np_random.integers(2) * 2] = False
        return {"action_mask": (self.allowed, np.ones(2, bool), np.ones(2, bool))}


class Parameters(gymnasium.Env):
    """Observes the parameters that its last reset was given: `gravity` and `wind`, -1 for those it was not."""

    observation_space = spaces.Box(-100, 100, (2,), np.float32)
    action_space = spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        given = (options or {}).get("parameters", {})
        self.seen = np.array([given.get("gravity", -1), given.get("wind", -1)], np.float32)
        return self.seen, {}

    def step(self, action):
        return self.seen, 0.0, bool(action), False, {}


for _kind in (Pictures, Wide, Hybrid, Parameters):
    gymnasium.register(f"{_kind.__name__}-v0", entry_point=f"tests.envs.unity.player_toys:{_kind.__name__}")


class Script:
    """Plays a player in this process: each of `answers` makes the content of one answer from the message before it.

    After the handshake, which is answered here, the first answer is to the empty message. With the last one answered,
    the conversation is closed.

    Attributes:
        sent: every message of the player, parsed by mlagents-envs' class; bytes that are none stay bytes.
    """

    def __init__(self, words, answers, seed=5, capable=True):
        self.sent = []
        self._answers = iter(answers)
        self._seed, self._capable = seed, capable
        options = parse(words)
        try:
            PlayerClient(options, options.fault, self._exchange).run()
        except Closed as end:
            self.end = str(end)

    def infos(self, number, behavior=None):
        """AgentInfoProtos of message `number` (from 1)."""
        found = self.sent[number - 1].unity_output.rl_output.agentInfos
        return [info for name in found if behavior in (None, name) for info in found[name].value]

    def ids(self, number):
        """(id, done) of each agent of message `number`."""
        return [(info.id, info.done) for info in self.infos(number)]

    def _exchange(self, data):
        try:
            self.sent.append(message("unity_message", "UnityMessageProto").FromString(data))
        except Exception:
            self.sent.append(data)
            raise Closed("not a message") from None
        answer = message("unity_message", "UnityMessageProto")()
        answer.header.status = 200
        if len(self.sent) == 1:
            start = answer.unity_input.rl_initialization_input
            start.seed = self._seed
            start.capabilities.concatenatedPngObservations = self._capable
            start.capabilities.compressedChannelMapping = self._capable
            start.capabilities.variableLengthObservation = self._capable
        else:
            content = next(self._answers, None)
            if content is None:
                answer.header.status = 400
            else:
                content(self.sent[-1], answer.unity_input.rl_input)
        return answer.SerializeToString()


def reset(side_channel=b""):
    """An answer: RESET."""

    def fill(said, content):
        content.command = 1
        content.side_channel = side_channel

    return fill


def act(*discrete, continuous=(), side_channel=b""):
    """An answer: an action for each agent that asks, from `discrete` in turn (a number, or one a branch)."""

    def fill(said, content):
        choices = iter(discrete * 100)
        content.side_channel = side_channel
        for behavior, infos in said.unity_output.rl_output.agentInfos.items():
            for info in infos.value:
                if not info.done:
                    action = content.agent_actions[behavior].value.add()
                    action.continuous_actions.extend(continuous)
                    action.discrete_actions.extend(np.atleast_1d(next(choices)).tolist())

    return fill
