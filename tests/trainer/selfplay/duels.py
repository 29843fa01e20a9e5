"""A game of two teams in every instance, as a kind of environment: whoever plays the larger numbers wins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from envs.api import Manager
from envs.config import EnvConfig, setting
from envs.spec import BehaviorSpec, Decisions, ObservationSpec, Ready, StepResults

CHOICES = 3
CLOCK = ObservationSpec("clock", (2,), "float32")


@dataclass
class DuelsConfig(EnvConfig):
    """Teams of `size` agents; each step every agent plays a number, and the larger sum of an episode wins."""

    instances: int = 3
    size: int = setting(1, at_least=1)
    length: int = setting(4, at_least=1)
    asymmetric: bool = False
    """Whether the teams are behaviors of their own."""
    teams: int = 2
    hides: bool = False
    """Whether decisions say nothing of teams."""
    marked: bool = False
    """Whether observations say which step, instance and team they are of (`mark`)."""
    reproducible: ClassVar[bool] = True

    def make_manager(self, setup):
        return Duels(self, setup)


class Duels(Manager):
    """All instances step at once; an episode's first observation comes with the last result of the one before."""

    def __init__(self, config, setup):
        super().__init__(config.instances, setup)
        self.config = config
        names = ["Left", "Right"] if config.asymmetric else ["Duelist"]
        self.specs = {name: BehaviorSpec(name, (CLOCK,), branches=(CHOICES,)) for name in names}
        resume = setup.resume or {}
        self.at = int(resume.get("at", 0))
        self.sums = np.array(resume.get("sums", np.zeros((config.instances, config.teams))))
        self.played = np.zeros((config.instances, config.teams, config.size))
        self.first = True

    def team_of(self, name):
        """Teams of a behavior."""
        if not self.config.asymmetric:
            return range(self.config.teams)
        return [list(self.specs).index(name)]

    def poll(self, until):
        if (self.played < 0).any():
            return {}
        if not self.first:
            self.step()
        ready = {name: self.ready(name) for name in self.specs}
        if self.over and not self.first:
            self.sums[:] = 0
        self.played[:] = -1
        self.first = False
        return ready

    @property
    def over(self):
        return self.at > 0 and self.at % self.config.length == 0

    def step(self):
        self.at += 1
        self.sums += self.played.sum(axis=2)
        self.samples += self.config.teams * self.config.size
        self.busy_seconds += 1e-6
        self.begun += self.over

    def ready(self, name):
        config, many = self.config, self.config.instances
        teams = np.array(self.team_of(name))
        instance, place, _ = (each.ravel() for each in np.indices((many, len(teams), config.size)))
        agent, team = np.arange(len(instance)), teams[place]
        closed = agent[:0] if self.first else agent
        margin = self.sums - self.sums.sum(axis=1, keepdims=True) / config.teams
        seen = np.zeros((len(agent), 2), np.float32)
        seen[:, 0] = self.at % config.length
        if config.marked:
            seen[:, 1] = (self.at * many + instance) * config.teams + team
        results = StepResults(
            instance[closed].astype(np.int32),
            closed,
            (np.sign(margin[instance, team]) * self.over).astype(np.float32)[closed],
            np.full(len(closed), self.over),
            np.zeros(len(closed), bool),
            (seen[:0],),
            np.zeros((0, 0), bool),
        )
        side = np.zeros(0, np.int64) if config.hides else team.astype(np.int32)
        decisions = Decisions(instance.astype(np.int32), agent, (seen,), np.zeros((len(agent), 0), bool), side)
        reported = {i: {"margin": float(margin[instance[i], team[i]])} for i in agent.tolist()}
        return Ready(results, decisions, np.zeros(0, np.int64), reported if self.over and len(closed) else {})

    def send(self, behavior, agents, continuous, discrete):
        teams = np.array(self.team_of(behavior))
        instance, place, member = np.unravel_index(agents, (self.instances, len(teams), self.config.size))
        self.played[instance, teams[place], member] = discrete[:, 0]

    def state(self):
        return {**super().state(), "at": self.at, "sums": self.sums.tolist()}


def high(spec, rng):
    """Plays the largest number."""
    return lambda observations, mask: ([], [CHOICES - 1])


def chance(spec, rng):
    """Plays any number."""
    return lambda observations, mask: ([], [rng.randrange(CHOICES)])
