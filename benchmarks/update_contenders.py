"""Who takes part in `update_speed.py`: SAC and PPO, ours and Stable-Baselines3's, on the same random steps.

Shapes: T steps, A agents, O numbers observed, C continuous actions.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any, NamedTuple, Protocol

import gymnasium
import numpy as np
import torch

from algorithms.ops import matmul as products
from algorithms.ppo.ppo import PPO
from algorithms.ppo.settings import PPOSettings
from algorithms.sac.sac import SAC
from algorithms.sac.settings import SACSettings
from buffers.rows import Layout, Rows, Writer
from envs.spec import Array, BehaviorSpec, ObservationSpec

Settings = SACSettings | PPOSettings
REPLAY_ROWS = 50_000
AGENTS = 8
NUMBERS = 17
"""Observed; with 6 continuous actions, as many as HalfCheetah has."""
ACTIONS = 6
_ENDS = 0.01  # share of steps that end their episode
_UPDATES = 20  # of SAC in one call of `learn`


class Contender(Protocol):
    """One side of a case."""

    gradient_steps: int
    """Of one call of `learn`."""

    def refill(self) -> None:
        """Lays ready what `learn` learns from; not timed."""

    def learn(self) -> int:
        """Learns; how many updates (SAC) or samples (PPO) that were."""


def contenders(settings: Settings, device: str, compiled: bool = False) -> dict[str, Contender]:
    """Ours and, where Stable-Baselines3 is installed, theirs; our SAC through `torch.compile` if `compiled`."""
    sides: dict[str, Contender] = {}
    installed = find_spec("stable_baselines3") is not None
    if isinstance(settings, SACSettings):
        sides["ours"] = OurSAC(settings, device, compiled)
        if installed:
            sides["theirs"] = TheirSAC(settings, device)
    else:
        sides["ours"] = OurPPO(settings, device)
        if installed:
            sides["theirs"] = TheirPPO(settings, device)
    return sides


class Data(NamedTuple):
    """T steps of all agents; a few of them end their episode, and none cuts it off."""

    observations: Array
    """(T + 1, A, O) float32."""
    actions: Array
    """(T, A, C) float32, between -1 and 1."""
    rewards: Array
    """(T, A) float32."""
    terminated: Array
    """(T, A) bool."""


def random_data(steps: int, numbers: int = NUMBERS) -> Data:
    """The same steps at every call."""
    rng = np.random.default_rng(0)
    return Data(
        rng.normal(size=(steps + 1, AGENTS, numbers)).astype(np.float32),
        rng.uniform(-1, 1, (steps, AGENTS, ACTIONS)).astype(np.float32),
        rng.normal(size=(steps, AGENTS)).astype(np.float32),
        rng.random((steps, AGENTS)) < _ENDS,
    )


def filled_rows(data: Data) -> Rows:
    """A full buffer of the data's rows."""
    rows = _make_rows(data.observations.shape[-1], data.rewards.size)
    _append(Writer(rows), data, np.zeros_like(data.rewards), 1)
    return rows


class OurSAC:
    """Updates from a replay that stays as it is."""

    gradient_steps = _UPDATES

    def __init__(self, settings: SACSettings, device: str, compiled: bool = False) -> None:
        rows = filled_rows(random_data(REPLAY_ROWS // AGENTS))
        self._sac = SAC(rows.layout.spec, settings, rows, device, 0)
        if compiled:
            products.LARGE = sys.maxsize  # Inductor chooses libraries itself
            optimizer: Any = self._sac.optimizers["all"]
            optimizer.step = torch.compiler.disable(optimizer.step)  # type: ignore[no-untyped-call]  # no fused Adam there
            learn: Any = torch.compile(self._sac.learn)
            self._sac._replayed = learn

    def refill(self) -> None:
        """Nothing."""

    def learn(self) -> int:
        """Makes some updates."""
        for _ in range(_UPDATES):
            self._sac.update()
        return _UPDATES


class TheirSAC:
    """Updates from a replay buffer that stays as it is."""

    gradient_steps = _UPDATES

    def __init__(self, settings: SACSettings, device: str) -> None:
        import stable_baselines3

        self._batch_size = settings.batch_size
        model = stable_baselines3.SAC(
            "MlpPolicy",
            _spaces(),
            learning_rate=settings.learning_rate,
            buffer_size=REPLAY_ROWS,
            tau=settings.target_rate,
            gamma=settings.discount,
            ent_coef=f"auto_{settings.temperature}",
            policy_kwargs={"net_arch": list(settings.network.hidden), "activation_fn": torch.nn.ReLU},
            seed=0,
            device=device,
        )
        self._model = _silent(model)
        data, buffer = random_data(REPLAY_ROWS // AGENTS), self._model.replay_buffer
        for step, following, (action, reward, terminated) in _steps(data):
            buffer.add(step, following, action, reward, terminated, [{}] * AGENTS)

    def refill(self) -> None:
        """Nothing."""

    def learn(self) -> int:
        """Makes some updates."""
        self._model.train(_UPDATES, self._batch_size)
        return _UPDATES


class OurPPO:
    """Updates from rollouts of the same steps, each as if the newest policy had acted."""

    def __init__(self, settings: PPOSettings, device: str) -> None:
        self._settings, self._device = settings, device
        self.gradient_steps = _gradient_steps(settings)
        self._data = random_data(settings.rollout_size // AGENTS)
        rows = _make_rows(NUMBERS, settings.min_rows())
        self._writer = Writer(rows)
        self._ppo = PPO(rows.layout.spec, settings, rows, device, 0)
        self._write(1)  # each agent's newest step is complete only with its next

    def refill(self) -> None:
        """Writes a rollout."""
        self._write(len(self._data.rewards))

    def learn(self) -> int:
        """Learns from it."""
        before = self._ppo.updates
        self._ppo.update()
        return (self._ppo.updates - before) * self._settings.rollout_size

    @torch.no_grad()
    def _write(self, steps: int) -> None:
        data, policy = self._data, self._ppo.policy
        seen, actions = (
            torch.from_numpy(x.reshape(-1, x.shape[-1])).to(self._device)
            for x in (data.observations[:steps], data.actions[:steps])
        )
        nothing = torch.zeros(len(seen), 0, device=self._device)
        features, _ = policy.features(policy.prepare([seen]), nothing)
        log_prob = policy.distribution(features, nothing.bool()).log_prob(actions, nothing.long())
        _append(self._writer, data, log_prob.view(steps, AGENTS).cpu().numpy(), self._ppo.updates + 1)


class TheirPPO:
    """Updates from a rollout buffer of the same steps, each as if the newest policy had acted."""

    def __init__(self, settings: PPOSettings, device: str) -> None:
        import stable_baselines3

        self._settings, self._device = settings, device
        self.gradient_steps = _gradient_steps(settings)
        self._data = random_data(settings.rollout_size // AGENTS)
        model = stable_baselines3.PPO(
            "MlpPolicy",
            _spaces(),
            learning_rate=settings.learning_rate,
            n_steps=settings.rollout_size // AGENTS,
            batch_size=settings.minibatch_size,
            n_epochs=settings.epochs,
            gamma=settings.discount,
            gae_lambda=settings.gae_lambda,
            clip_range=settings.clip,
            ent_coef=settings.entropy_coef or 0.0,
            vf_coef=settings.value_weight,
            max_grad_norm=settings.max_gradient_norm or float("inf"),
            policy_kwargs={"net_arch": list(settings.network.hidden), "activation_fn": torch.nn.ReLU},
            seed=0,
            device=device,
        )
        self._model = _silent(model)

    @torch.no_grad()
    def refill(self) -> None:
        """Fills the rollout buffer."""
        data, policy, buffer = self._data, self._model.policy, self._model.rollout_buffer
        starts = np.ones(AGENTS, np.bool_)
        buffer.reset()
        for step, _, (action, reward, terminated) in _steps(data):
            seen, acted = (torch.from_numpy(x).to(self._device) for x in (step, action))
            values, log_prob, _ = policy.evaluate_actions(seen, acted)
            buffer.add(step, action, reward, starts, values, log_prob)
            starts = terminated
        behind = policy.predict_values(torch.from_numpy(data.observations[-1]).to(self._device))
        buffer.compute_returns_and_advantage(behind, starts)

    def learn(self) -> int:
        """Learns from it."""
        self._model.train()
        return self._settings.rollout_size


def _gradient_steps(settings: PPOSettings) -> int:
    return settings.epochs * -(-settings.rollout_size // settings.minibatch_size)


def _make_rows(numbers: int, capacity: int) -> Rows:
    observation = ObservationSpec("observation", (numbers,), "float32")
    layout = Layout(BehaviorSpec("random", (observation,), ACTIONS))
    return Rows(layout, bytearray(layout.memory_bytes(capacity)), capacity)


def _append(writer: Writer, data: Data, log_probs: Array, version: int) -> None:
    """Appends as many steps of all agents as there are log-probabilities (any, A)."""
    agents, nothing = np.arange(AGENTS), np.zeros((AGENTS, 0), np.float32)
    mask, never = nothing.astype(np.bool_), np.zeros(AGENTS, np.bool_)
    for log_prob, (step, _, (action, reward, terminated)) in zip(log_probs, _steps(data)):
        taken = ((step,), mask, action, nothing.astype(np.int32), log_prob, version, reward)
        writer.append(agents, *taken, terminated, never, (step[:0],), mask[:0])


def _steps(data: Data) -> Iterator[tuple[Array, Array, tuple[Array, Array, Array]]]:
    """What agents saw, what they saw next, and (action, reward, terminated), step by step."""
    return zip(data.observations, data.observations[1:], zip(data.actions, data.rewards, data.terminated))


class _Spaces(gymnasium.Env[Array, Array]):
    """An environment that nobody steps: Stable-Baselines3 takes spaces from it."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (NUMBERS,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (ACTIONS,), np.float32)


def _spaces() -> Any:
    from stable_baselines3.common.vec_env import DummyVecEnv

    return DummyVecEnv([_Spaces] * AGENTS)


def _silent(model: Any) -> Any:
    from stable_baselines3.common.logger import Logger

    model.set_logger(Logger(None, []))
    return model
