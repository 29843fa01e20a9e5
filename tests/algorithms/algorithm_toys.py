"""Algorithms by import path: one that is whole and learns nothing, and some that each lack something."""

from dataclasses import replace

import torch

from algorithms.policy import Policy
from algorithms.settings import NetworkSettings
from envs.spec import UserError

NUMBER = 3


class Still:
    publish_every = 1
    updates_per_sample = 0.1
    start_samples = 5
    tolerance = 20
    dropped = 0
    cloning = None
    kind = "ppo"

    def __init__(self, spec, settings, rows, device, seed, rewards, demos):
        self.given = (spec, settings, rows, device, seed, rewards, demos)
        self.policy = Policy(spec, settings.network, self.kind)
        self.updates = 0

    def update(self):
        self.updates += 1

    def set_progress(self, samples):
        pass

    def metrics(self):
        return {}

    def weights(self):
        return {"weights/policy": self.policy.flat.clone(), "weights/more": torch.zeros(2)}

    def load_weights(self, state):
        self.policy.flat.copy_(state["weights/policy"])

    def state_dict(self):
        return {**self.weights(), "updates": torch.tensor(self.updates)}

    def load_state_dict(self, state):
        self.load_weights(state)
        self.updates = int(state["updates"])


class Squashed(Still):
    kind = "sac"


class TakesOne(Still):
    def __init__(self, spec):
        pass


class NoMethods:
    def update(self):
        pass


class Fails(Still):
    def __init__(self, *given):
        raise ValueError("nothing\nthere")


class Refuses(Still):
    def __init__(self, *given):
        raise UserError("only on Sundays")


class NoValues(Still):
    def __init__(self, *given):
        pass


class NoPolicy(Still):
    def __init__(self, *given):
        self.policy, self.updates = None, 0


class OtherNetwork(Still):
    def __init__(self, spec, settings, *given):
        super().__init__(spec, replace(settings, network=NetworkSettings([3])), *given)


class MovedOut(Still):
    def __init__(self, *given):
        super().__init__(*given)
        for parameter in self.policy.parameters():
            parameter.data = parameter.data.clone()


class NotAnInt(Still):
    start_samples = 0.5


class NeverUpdates(Still):
    updates_per_sample = 0


class Impatient(Still):
    tolerance = 9


class Hoards(Still):
    start_samples = 1000


class FailsWeights(Still):
    def weights(self):
        raise AttributeError("no such thing")


class Arrays(Still):
    def weights(self):
        return {"weights/policy": self.policy.flat.numpy()}


class OtherNames(Still):
    def weights(self):
        return {"policy": self.policy.flat}


class Forgets(Still):
    def state_dict(self):
        return {"weights/policy": self.policy.flat}
