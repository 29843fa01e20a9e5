"""Who takes part in `update_speed.py`: SAC and PPO, ours and Stable-Baselines3's, on the same random steps.

Shapes: T steps, A agents, (O…) the shape of what is observed: (17,) numbers or (4, 84, 84) pixels; C continuous
actions, B discrete branches.
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
from algorithms.ops.cuda_graph import Graphed
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
PIXELS = (4, 84, 84)
"""Four grey frames of 84 x 84, as Atari games are played; of these the replay holds fewer: `IMAGE_ROWS`."""
IMAGE_ROWS = 2_000
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
    sides: dict[str, Contender] = {"ours": ours(settings, device)}
    if compiled and isinstance(sides["ours"], OurSAC):
        sides["ours"].compile()
    if find_spec("stable_baselines3") is not None:
        sides["theirs"] = theirs(settings, device)
    return sides


def ours(
    settings: Settings, device: str, shape: tuple[int, ...] = (NUMBERS,), branches: tuple[int, ...] = ()
) -> OurSAC | OurPPO:
    """Our side, which observes arrays of `shape` and also chooses among `branches`."""
    if isinstance(settings, SACSettings):
        return OurSAC(settings, device, shape, branches)
    return OurPPO(settings, device, shape, branches)


def theirs(settings: Settings, device: str, shape: tuple[int, ...] = (NUMBERS,)) -> TheirSAC | TheirPPO:
    """Stable-Baselines3's, which must be installed."""
    return TheirSAC(settings, device, shape) if isinstance(settings, SACSettings) else TheirPPO(settings, device, shape)


class Data(NamedTuple):
    """T steps of all agents; a few of them end their episode, and none cuts it off."""

    observations: Array
    """(T + 1, A, O…) float32, or uint8 where they are images."""
    actions: Array
    """(T, A, C) float32, between -1 and 1."""
    rewards: Array
    """(T, A) float32."""
    terminated: Array
    """(T, A) bool."""
    branches: tuple[int, ...]
    """Choices of each discrete branch."""
    choices: Array
    """(T, A, B) int32."""


def random_data(steps: int, shape: tuple[int, ...] = (NUMBERS,), branches: tuple[int, ...] = ()) -> Data:
    """The same steps at every call."""
    rng = np.random.default_rng(0)
    size = (steps + 1, AGENTS, *shape)
    return Data(
        rng.integers(0, 256, size, np.uint8) if len(shape) == 3 else rng.normal(size=size).astype(np.float32),
        rng.uniform(-1, 1, (steps, AGENTS, ACTIONS)).astype(np.float32),
        rng.normal(size=(steps, AGENTS)).astype(np.float32),
        rng.random((steps, AGENTS)) < _ENDS,
        branches,
        rng.integers(0, np.array(branches, np.int32), (steps, AGENTS, len(branches)), np.int32),
    )


def filled_rows(data: Data, state_size: int = 0) -> Rows:
    """A full buffer of the data's rows, with recurrent states of zeros if they have a size."""
    rows = _make_rows(data, data.rewards.size, state_size)
    _append(Writer(rows), data, np.zeros_like(data.rewards), 1)
    return rows


def _replay_steps(shape: tuple[int, ...]) -> int:
    return (IMAGE_ROWS if len(shape) == 3 else REPLAY_ROWS) // AGENTS


class OurSAC:
    """Updates from a replay that stays as it is."""

    gradient_steps = _UPDATES

    def __init__(
        self, settings: SACSettings, device: str, shape: tuple[int, ...] = (NUMBERS,), branches: tuple[int, ...] = ()
    ) -> None:
        rows = filled_rows(random_data(_replay_steps(shape), shape, branches), settings.network.memory.numbers)
        self.algorithm = self._sac = SAC(rows.layout.spec, settings, rows, device, 0)

    def compile(self) -> None:
        """Hands updates to `torch.compile`."""
        products.LARGE = sys.maxsize  # Inductor chooses libraries itself
        optimizer: Any = self._sac.optimizers["all"]
        optimizer.step = torch.compiler.disable(optimizer.step)  # type: ignore[no-untyped-call]  # no fused Adam there
        learn: Any = torch.compile(self._sac.learn)
        self._sac._replayed = learn

    def launch(self) -> None:
        """Makes all updates by plain calls, on a GPU too."""
        self._sac._replayed = Graphed(self._sac.learn, torch.device("cpu"))

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

    def __init__(self, settings: SACSettings, device: str, shape: tuple[int, ...] = (NUMBERS,)) -> None:
        import stable_baselines3

        self._batch_size = settings.batch_size
        data = random_data(_replay_steps(shape), shape)
        model = stable_baselines3.SAC(
            _policy_name(shape),
            _spaces(shape),
            learning_rate=settings.learning_rate,
            buffer_size=data.rewards.size,
            tau=settings.target_rate,
            gamma=settings.discount,
            ent_coef=f"auto_{settings.temperature}",
            policy_kwargs={"net_arch": list(settings.network.hidden), "activation_fn": torch.nn.ReLU},
            seed=0,
            device=device,
        )
        self._model = _silent(model)
        buffer = self._model.replay_buffer
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

    def __init__(
        self, settings: PPOSettings, device: str, shape: tuple[int, ...] = (NUMBERS,), branches: tuple[int, ...] = ()
    ) -> None:
        self._settings, self._device = settings, device
        self.gradient_steps = _gradient_steps(settings)
        self._data = random_data(settings.rollout_size // AGENTS, shape, branches)
        rows = _make_rows(self._data, settings.min_rows())
        self._writer = Writer(rows)
        self.algorithm = self._ppo = PPO(rows.layout.spec, settings, rows, device, 0)
        self._write(1)  # each agent's newest step is complete only with its next

    def launch(self) -> None:
        """Makes all gradient steps by plain calls, on a GPU too."""
        self._ppo._replayed = Graphed(self._ppo._learn_some, torch.device("cpu"))

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
        seen, actions, choices = (
            torch.from_numpy(x[:steps].reshape(steps * AGENTS, *x.shape[2:])).to(self._device)
            for x in (data.observations, data.actions, data.choices)
        )
        nothing = torch.zeros(len(seen), 0, device=self._device)
        features, _ = policy.features(policy.prepare([seen]), nothing)
        distribution = policy.distribution(features, nothing.bool())
        log_prob = distribution.log_prob(actions, policy.branches.index(choices.long()))
        _append(self._writer, data, log_prob.view(steps, AGENTS).cpu().numpy(), self._ppo.updates + 1)


class TheirPPO:
    """Updates from a rollout buffer of the same steps, each as if the newest policy had acted."""

    def __init__(self, settings: PPOSettings, device: str, shape: tuple[int, ...] = (NUMBERS,)) -> None:
        import stable_baselines3

        self._settings, self._device = settings, device
        self.gradient_steps = _gradient_steps(settings)
        self._data = random_data(settings.rollout_size // AGENTS, shape)
        model = stable_baselines3.PPO(
            _policy_name(shape),
            _spaces(shape),
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


def _make_rows(data: Data, capacity: int, state_size: int = 0) -> Rows:
    shape, dtype = data.observations.shape[2:], data.observations.dtype.name
    observation = ObservationSpec("observation", shape, dtype, 1 / 255 if dtype == "uint8" else 1.0)
    layout = Layout(BehaviorSpec("random", (observation,), ACTIONS, data.branches), state_size)
    return Rows(layout, bytearray(layout.memory_bytes(capacity)), capacity)


def _append(writer: Writer, data: Data, log_probs: Array, version: int) -> None:
    """Appends as many steps of all agents as there are log-probabilities (any, A)."""
    agents, nothing = np.arange(AGENTS), np.zeros((AGENTS, 0), np.float32)
    mask, never = nothing.astype(np.bool_), np.zeros(AGENTS, np.bool_)
    state, position = np.zeros((AGENTS, writer.rows.layout.state_size), np.float32), np.zeros(AGENTS, np.int64)
    for log_prob, choices, (step, _, (action, reward, terminated)) in zip(log_probs, data.choices, _steps(data)):
        taken = ((step,), mask, action, choices, log_prob, version, reward)
        writer.append(agents, *taken, terminated, never, (step[:0],), mask[:0], state, position, state[:0])
        position = np.where(terminated, 0, position + 1)


def _steps(data: Data) -> Iterator[tuple[Array, Array, tuple[Array, Array, Array]]]:
    """What agents saw, what they saw next, and (action, reward, terminated), step by step."""
    return zip(data.observations, data.observations[1:], zip(data.actions, data.rewards, data.terminated))


class _Spaces(gymnasium.Env[Array, Array]):
    """An environment that nobody steps: Stable-Baselines3 takes spaces from it."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        image = len(shape) == 3
        bounds = (0, 255, shape, np.uint8) if image else (-np.inf, np.inf, shape, np.float32)
        self.observation_space = gymnasium.spaces.Box(*bounds)
        self.action_space = gymnasium.spaces.Box(-1, 1, (ACTIONS,), np.float32)


def _spaces(shape: tuple[int, ...]) -> Any:
    from stable_baselines3.common.vec_env import DummyVecEnv

    return DummyVecEnv([lambda: _Spaces(shape)] * AGENTS)


def _policy_name(shape: tuple[int, ...]) -> str:
    return "CnnPolicy" if len(shape) == 3 else "MlpPolicy"


def _silent(model: Any) -> Any:
    from stable_baselines3.common.logger import Logger

    model.set_logger(Logger(None, []))
    return model
