"""Actors of a run: they act with what the learner has published."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from algorithms.acting import NumpyActor
from algorithms.policy import Acted, Policy
from envs.spec import Array
from trainer.weights import WeightsReader


class PolicyActor:
    """Acts with the newest published weights of a policy, on the CPU: in numpy where it fits, else in torch."""

    def __init__(self, policy: Policy, weights: WeightsReader, seed: int) -> None:
        self._policy, self._weights = policy, weights
        self._flat: Array = policy.flat.detach().numpy()
        self._numpy = NumpyActor(policy) if NumpyActor.fits(policy) else None
        self._numpy_generator = np.random.default_rng(seed)
        self._torch_generator = torch.Generator().manual_seed(seed)

    @property
    def version(self) -> int:
        """Version of the weights it acts with."""
        return self._weights.version

    def refresh(self) -> None:
        """Takes the newest weights."""
        self._weights.refresh(self._flat)

    def act(self, observations: tuple[Array, ...], mask: Array, memory: Array) -> Acted:
        """Sampled actions, their log-probabilities, and the memory after."""
        if self._numpy is not None:
            return self._numpy.act(observations, mask, memory, self._numpy_generator)
        return self._policy.act(observations, mask, memory, self._torch_generator)

    def state(self) -> dict[str, Any] | list[int]:
        """The random state: numpy's is a dict, torch's a list."""
        if self._numpy is not None:
            return dict(self._numpy_generator.bit_generator.state)
        return self._torch_generator.get_state().tolist()

    def load_state(self, state: dict[str, Any] | list[int]) -> None:
        """Goes on drawing from there."""
        if isinstance(state, dict):
            self._numpy_generator.bit_generator.state = state
        else:
            self._torch_generator.set_state(torch.tensor(state, dtype=torch.uint8))
