"""Algorithms by import path: one that is whole and learns nothing, and some that each lack something."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from algorithms.base import Algorithm
from algorithms.off_policy import OffPolicy, frozen
from algorithms.settings import GradientSettings
from envs.config import setting
from envs.spec import UserError

NUMBER = 3


@dataclass
class Options(GradientSettings):
    policy_kind: ClassVar[str] = "sac"

    width: int = setting(2, at_least=1)
    factor: float = 0.5
    word: str = "a"
    widths: list[int] = setting(default_factory=lambda: [1], at_least=1)


class Still(Algorithm):
    updates_per_sample = 0.1
    start_samples = 5
    tolerance = 20

    def build(self):
        self.more = nn.Linear(3, 2)
        return {"more": self.more}

    def update(self):
        self.updates += 1


class Squashed(Still):
    Settings = Options


class Steps(OffPolicy):
    """Two networks, one of which is fixed."""

    def build(self):
        self.more = nn.Linear(3, 2)
        self.fixed = frozen(self.more)
        return {"fixed": self.fixed, "more": self.more}

    def learn(self, batch):
        finite = self.step("more", self.more(torch.ones(3)).square().sum())
        self.log({"loss/more": self.more.bias.sum()}, finite)


class TakesOne(Still):
    def __init__(self, spec):
        pass


class NoMethods:
    def update(self):
        pass


class Halfway(Algorithm):
    def update(self):
        pass


class NoDataclass(Still):
    class Settings(GradientSettings):
        more = 1


class OtherSettings(Still):
    Settings = int


class Fails(Still):
    def build(self):
        raise ValueError("nothing\nthere")


class Refuses(Still):
    def build(self):
        raise UserError("only on Sundays")


class NotAnInt(Still):
    start_samples = 0.5


class NeverUpdates(Still):
    updates_per_sample = 0


class NoPace(Algorithm):
    def build(self):
        return {}

    def update(self):
        pass


class Impatient(Still):
    tolerance = 9


class Hoards(Still):
    start_samples = 1000
