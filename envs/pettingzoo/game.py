"""PettingZoo's two interfaces as one: who has got what, and who is asked next.

Both say what they are by duck typing, so nothing here imports PettingZoo: the environment does.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, NamedTuple

from envs.gym.adapter import begin
from envs.gym.spaces import scalar_metrics
from envs.gym.values import WrongValue, ended, number, shortened

GROUP_REWARD = "group_reward"
"""Key of an info."""


class Heard(NamedTuple):
    """What one agent learns: it asks for an action next, unless its episode has ended."""

    seat: int
    observation: Any
    reward: Any
    """What it has earned since it acted last."""
    terminated: bool
    truncated: bool
    info: Mapping[str, Any]

    @property
    def over(self) -> bool:
        """Whether its episode has ended."""
        return self.terminated or self.truncated

    @property
    def group_reward(self) -> float:
        """What part of the reward its group has earned, by its info."""
        return number(self.info[GROUP_REWARD], "the group's reward") if GROUP_REWARD in self.info else 0.0

    @property
    def metrics(self) -> dict[str, float]:
        """The other plain numbers of its info."""
        return scalar_metrics({key: value for key, value in self.info.items() if key != GROUP_REWARD})


class Game(ABC):
    """One PettingZoo environment. A seat is an index into its `possible_agents`."""

    def __init__(self, env: Any) -> None:
        self.env = env
        self.agents: list[Any] = list(env.possible_agents)
        self._seats = {agent: seat for seat, agent in enumerate(self.agents)}

    @abstractmethod
    def begin(self, seed: int, values: Mapping[str, float], options: type[dict[str, Any]] = dict) -> list[Heard]:
        """Begins an episode with environment parameters; returns what those learn who are asked first."""

    @abstractmethod
    def step(self, actions: Mapping[int, Any]) -> list[Heard]:
        """Takes the actions of all that were asked, by seat; returns what agents learn. Nobody asks: it is over."""

    def infos(self) -> Mapping[Any, Mapping[str, Any]]:
        """Returns the latest infos of all agents, by their names."""
        infos: Mapping[Any, Mapping[str, Any]] = self.env.infos
        return infos

    def close(self) -> None:
        """Closes the environment."""
        self.env.close()

    def _seat(self, agent: Any) -> int:
        if agent not in self._seats:
            raise WrongValue(
                f"agent {agent!r} has appeared, which is none of possible_agents: {shortened(self.agents)}. Where "
                "agents come and go, all that may come must be among them"
            )
        return self._seats[agent]


class ParallelGame(Game):
    """A `ParallelEnv`: all live agents act together."""

    def begin(  # noqa: D102
        self, seed: int, values: Mapping[str, float], options: type[dict[str, Any]] = dict
    ) -> list[Heard]:
        result = begin(self.env, seed, values, options)
        if type(result) is not tuple or len(result) != 2 or not all(isinstance(each, Mapping) for each in result):
            raise WrongValue(f"reset() returned {shortened(result)}; right is (observations, infos), each by agent")
        observations, self._infos = result
        self._live = list(self.env.agents)
        return [self._asking(agent, observations) for agent in self._live]

    def step(self, actions: Mapping[int, Any]) -> list[Heard]:  # noqa: D102
        result = self.env.step({self.agents[seat]: action for seat, action in actions.items()})
        if type(result) is not tuple or len(result) != 5 or not all(isinstance(each, Mapping) for each in result):
            raise WrongValue(
                f"step() returned {shortened(result)}; right is (observations, rewards, terminations, truncations, "
                "infos), each by agent"
            )
        observations, rewards, terminations, truncations, self._infos = result
        before, live = self._live, list(self.env.agents)
        heard, self._live = [], []
        for agent in before:
            try:
                reward, observation = rewards[agent], observations[agent]
                terminated, truncated = terminations[agent], truncations[agent]
            except KeyError:
                raise WrongValue(
                    f"step() says nothing of agent {agent!r}, which has acted: an agent that leaves has to be "
                    "terminated or truncated first, and gets its last reward and observation with that"
                ) from None
            one = self._heard(agent, observation, reward, terminated, truncated)
            heard.append(one)
            if one.over:
                continue
            if agent not in live:
                raise WrongValue(f"agent {agent!r} has left `agents`, and was neither terminated nor truncated")
            self._live.append(agent)
        for agent in live:
            if agent not in before:
                self._live.append(agent)
                heard.append(self._asking(agent, observations))
        return heard

    def infos(self) -> Mapping[Any, Mapping[str, Any]]:  # noqa: D102
        infos: Mapping[Any, Mapping[str, Any]] = self._infos
        return infos

    def _asking(self, agent: Any, observations: Mapping[Any, Any]) -> Heard:
        if agent not in observations:
            raise WrongValue(f"agent {agent!r} is in `agents`, but has no observation")
        return self._heard(agent, observations[agent], 0.0, False, False)

    def _heard(self, agent: Any, observation: Any, reward: Any, terminated: Any, truncated: Any) -> Heard:
        if terminated is not False or truncated is not False:
            terminated, truncated = ended(terminated, "terminated"), ended(truncated, "truncated")
        return Heard(self._seat(agent), observation, reward, terminated, truncated, _info(self._infos.get(agent)))


class TurnGame(Game):
    """An `AECEnv`: an agent acts when it is its turn, and gets then what it has earned since it acted last."""

    def begin(  # noqa: D102
        self, seed: int, values: Mapping[str, float], options: type[dict[str, Any]] = dict
    ) -> list[Heard]:
        begin(self.env, seed, values, options)
        return self._until_asked()

    def step(self, actions: Mapping[int, Any]) -> list[Heard]:  # noqa: D102
        (action,) = actions.values()
        self.env.step(action)
        return self._until_asked()

    def _until_asked(self) -> list[Heard]:
        """Lets the agents that are dead leave, until a live one is asked or none is left."""
        env, heard = self.env, []
        while env.agents:
            left = len(env.agents)
            result = env.last()
            if type(result) is not tuple or len(result) != 5:
                raise WrongValue(
                    f"last() returned {shortened(result)}; right is (observation, reward, terminated, truncated, info)"
                )
            observation, reward, terminated, truncated, info = result
            terminated, truncated = ended(terminated, "terminated"), ended(truncated, "truncated")
            agent = env.agent_selection
            heard.append(Heard(self._seat(agent), observation, reward, terminated, truncated, _info(info)))
            if not heard[-1].over:
                break
            env.step(None)
            if len(env.agents) >= left:
                raise WrongValue(f"agent {agent!r} is dead, and step(None) has not removed it from `agents`")
        return heard


def game_of(env: Any) -> Game:
    """Returns an environment of either kind as a game; WrongValue if it is neither, or does not say who may play."""
    if not callable(getattr(env, "step", None)) or not callable(getattr(env, "observation_space", None)):
        raise WrongValue(f"{type(env).__name__} is no PettingZoo environment: neither a ParallelEnv nor an AECEnv")
    if not getattr(env, "possible_agents", None):
        raise WrongValue(
            f"{type(env).__name__} has no possible_agents: the agents that may appear have to be known before it begins"
        )
    return TurnGame(env) if callable(getattr(env, "last", None)) else ParallelGame(env)


def _info(info: Any) -> Mapping[str, Any]:
    if info is None:
        return {}
    if not isinstance(info, Mapping):
        raise WrongValue(f"the info of an agent is {shortened(info)}, where a dict is right")
    return info
