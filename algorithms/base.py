"""The base of all algorithms: what each of them repeats. An algorithm is its networks and its update.

Shapes: P numbers of a network's parameters, V values that an algorithm learns.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from algorithms.imitation.cloning import Cloning
from algorithms.imitation.demonstrations import Steps
from algorithms.metrics import (
    Averages,
    below,
    explained_variance,
    load_numpy_state,
    load_torch_state,
    numpy_state,
    seeded,
    words_of,
)
from algorithms.networks.normalizer import Moments, Normalizers
from algorithms.ops.adam import FlatAdam, place
from algorithms.policy import Policy
from algorithms.ranks import SharedLearning
from algorithms.registry import algorithm_class
from algorithms.rewards.base import Rewards, Scores, ValueOf
from algorithms.rewards.registry import RewardSettings, default_rewards, make_rewards
from algorithms.settings import AlgorithmSettings, GradientSettings, scheduled
from buffers.rollout import Rollout
from buffers.rows import Rows, observation_names
from envs.spec import Array, BehaviorSpec, UserError

Network = nn.Module | nn.Parameter


class Algorithm(SharedLearning, ABC):
    """Learns `policy` from rows, an update at a time. All randomness follows from a seed.

    An algorithm of your own writes `build` and `update` (`OffPolicy`: `build` and `learn`), and perhaps `Settings`, a
    dataclass that derives from `GradientSettings` or `OffPolicySettings` (docs/extending.md).
    """

    Settings: ClassVar[type[AlgorithmSettings]] = GradientSettings
    publish_every = 1
    """Updates between two publications of the policy."""
    joint_optimizer = False
    """Whether all networks share one optimiser; else each has its own. The gradient of each is clipped by itself."""
    value_of: ClassVar[ValueOf] = "sum"
    """Of what it learns values (V of them): of the sum of all reward signals (V = 1), so that all need one discount; of
    the sum of those of each `discount`; or of each `signal`."""
    updates_per_sample: float
    """Updates that are made for each sample."""
    start_samples = 0
    """Samples collected before the first update."""
    tolerance: float
    """Samples by which updates may lag before games are throttled; at least those of one update."""

    def __init__(
        self,
        spec: BehaviorSpec,
        settings: Any,
        rows: Rows,
        device: torch.device | str,
        seed: int,
        rewards: RewardSettings | None = None,
        demos: Mapping[str, Rows] = MappingProxyType({}),
    ) -> None:
        """`demos` holds, by path, the demonstrations that the settings name."""
        self.spec, self.settings, self.rows = spec, settings, rows
        self.device = torch.device(device)
        self.updates = 0
        """Made so far, earlier parts of a resumed run included."""
        self.generator = torch.Generator(self.device).manual_seed(seed)
        self.rng = np.random.default_rng(seed)
        self.policy: Policy
        """What is learned; actors get copies of `policy.flat`."""
        self.rewards: Rewards
        signals = default_rewards() if rewards is None else rewards
        self._place(seeded(lambda: self._make_networks(signals, demos, seed), seed))
        self.normalizer = Normalizers(self.policy.normalized_sizes)
        self.cloning: Cloning | None = None
        if (path := settings.cloning.demos) is not None:
            self.cloning = Cloning(settings.cloning, demos[path], self.policy, seed)
        self.demos = demos
        self._demonstrated: list[Moments] | None = None
        self._look_at_demonstrations()
        self._averages: dict[tuple[str, ...], Averages] = {}
        self._read = 0, 0
        """Gradient steps made and skipped, when metrics were last read."""
        self.set_progress(0)

    @abstractmethod
    def build(self) -> Mapping[str, Network]:
        """Makes the networks beside the policy, as attributes, and returns them by the names of their weights.

        Networks whose parameters need no gradient, such as `frozen` copies, are saved but not learned.
        """

    @abstractmethod
    def update(self) -> None:
        """Learns once, and adds 1 to `updates`; or finds too few rows that are fresh, and counts those as `dropped`."""

    def rescale_values(self, ratios: Tensor) -> None:
        """Multiplies all predicted values by `ratios` (V,), as returns are now counted in another unit.

        Without it predictions are wrong by as much for a while: after the first updates ratios are close to 1.
        """

    @property
    def dropped(self) -> int:
        """Rows that came too late to be learned from; no update is made for them."""
        return 0

    def normalize(self, observations: Sequence[Array]) -> None:
        """Takes new observations, (N, *shape) each, into the normaliser, and as many demonstrated ones.

        Else what was demonstrated far from where agents are would soon lie so many deviations away that it all looks
        alike.
        """
        groups = self.policy.normalized_rows(observations)
        if self.normalizer.merge(groups) and self._demonstrated is not None:
            self.normalizer.add(self._demonstrated, [len(rows) for rows in groups])
        self.normalizer.publish(self.policy.shift, self.policy.scale)

    def measure(self, rollout: Rollout, scores: Sequence[Scores]) -> None:
        """Lets new rows move the scale of returns; predictions keep their meaning (PopArt, arXiv 1602.07714)."""
        ratios = self.rewards.measure(rollout, scores)
        if ratios is not None:
            with torch.no_grad():
                self.rescale_values(ratios)

    def steps_of(self, rollout: Rollout) -> Steps:
        """Returns the rows of a rollout as reward signals see them."""
        following = []
        for seen, at_ends in zip(rollout.observations, rollout.bootstrap_observations):
            after = np.roll(seen, -1, axis=0)
            after[rollout.ends] = at_ends
            following.append(self.move(after))
        arrays = (rollout.mask, rollout.continuous, rollout.discrete, rollout.terminated)
        mask, continuous, discrete, terminated = map(self.move, arrays)
        observations = tuple(map(self.move, rollout.observations))
        return Steps(observations, mask, continuous, discrete.long(), terminated, tuple(following))

    def move(self, array: Array) -> Tensor:
        """Returns an array as a tensor on the device."""
        return torch.from_numpy(array).to(self.device)

    def step(self, network: str, *losses: Tensor, beside: Tensor | None = None) -> Tensor:
        """Makes one gradient step of the network of that name; returns () bool, whether its gradient was finite.

        The gradients of several `losses` are clipped apart, and added. `beside`: see `FlatAdam.step`.
        """
        parameters = self.parameters[network]
        if len(losses) == 1:
            gradients = [torch.autograd.grad(losses[0], parameters)]
        else:
            found = [torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True) for loss in losses]
            gradients = [
                tuple(torch.zeros_like(p) if g is None else g for g, p in zip(each, parameters)) for each in found
            ]
        finite = self.optimizers[network].step(*gradients, beside=beside)
        self.policy.bound()
        return finite

    def cloning_loss(self) -> Tensor | float:
        """Returns what cloning adds to the policy's loss: 0 without, and once it has ended."""
        return self.cloning.loss() if self.cloning is not None and self.cloning.active else 0.0

    def log(self, values: Mapping[str, Tensor], finite: Tensor) -> None:
        """Takes () numbers of one update into the averages that are logged, unless the update was not `finite`."""
        self.averages(tuple(values)).add(torch.stack(list(values.values())), finite)

    def averages(self, names: tuple[str, ...]) -> Averages:
        """Returns the averages of those names, always the same."""
        if names not in self._averages:
            self._averages[names] = Averages(names, self.device)
        return self._averages[names]

    def set_progress(self, samples: int) -> None:
        """Moves schedules to `samples` samples."""
        chosen = self.settings
        rate = scheduled(chosen.learning_rate, chosen.learning_rate_end, chosen.schedule_samples, samples)
        for optimizer in self.optimizers.values():
            optimizer.learning_rate.fill_(rate)
        self.rewards.set_progress(samples)
        if self.cloning is not None:
            self.cloning.set_progress(samples)
        self.progress = samples

    def metrics(self) -> dict[str, float]:
        """Returns means over the updates since the last reading, and gradient steps skipped since the start."""
        read = [averages.read() for averages in self._averages.values()]
        optimizers = list(self.optimizers.values())
        skipped, made = sum(each.skipped() for each in optimizers), sum(int(each.steps.item()) for each in optimizers)
        (made_before, skipped_before), self._read = self._read, (made, skipped)
        tried = made - made_before + skipped - skipped_before
        return {
            **explained_variance({name: value for each in read for name, value in each.items()}),
            **self.rewards.metrics(),
            **(self.cloning.metrics() if self.cloning is not None else {}),
            "update/learning_rate": float(optimizers[0].learning_rate),
            "update/skipped_non_finite": skipped,
            **({"update/skipped_share": (skipped - skipped_before) / tried} if tried else {}),
        }

    def weights(self) -> dict[str, Tensor]:
        """Returns copies of the networks and what they depend on, without the state of learning."""
        vectors = {**self.vectors, "policy": self.policy.flat}  # and what is published with its parameters
        return {
            **{f"weights/{name}": vector.cpu().clone() for name, vector in vectors.items()},
            "weights/normalizer": self.normalizer.state(),
            **{f"weights/returns/{name}": numbers for name, numbers in self.rewards.weights().items()},
        }

    def load_weights(self, state: Mapping[str, Tensor]) -> None:
        """Takes over what `weights` gave."""
        for name, vector in {**self.vectors, "policy": self.policy.flat}.items():
            vector.copy_(state[f"weights/{name}"])
        self.normalizer.load_state(state["weights/normalizer"])
        self.rewards.load_weights(below(state, "weights/returns/"))

    def state_dict(self) -> dict[str, Tensor]:
        """Returns all that an exact continuation needs, the rows apart: `weights`, and more."""
        parts: dict[str, Mapping[str, Tensor]] = {"rewards": self.rewards.state_dict()}
        if self.rewards.scale is not None:
            parts["returns"] = self.rewards.scale.state_dict()
        if self.cloning is not None:
            parts["cloning"] = self.cloning.state_dict()
        for name, optimizer in self.optimizers.items():
            parts["optimizer" if self.joint_optimizer else f"optimizer/{name}"] = optimizer.state_dict()
        return {
            **self.weights(),
            **{f"{part}/{key}": value for part, state in parts.items() for key, value in state.items()},
            "random/numpy": numpy_state(self.rng),
            "random/torch": self.generator.get_state().clone(),
            "progress": torch.tensor(self.progress),
            "updates": torch.tensor(self.updates),
        }

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Takes over what `state_dict` gave, also of earlier versions; the rows are there already."""
        self.load_weights(state)
        for name, optimizer in self.optimizers.items():
            optimizer.load_state_dict(below(state, "optimizer/" if self.joint_optimizer else f"optimizer/{name}/"))
        self.rewards.load_state_dict(below(state, "rewards/"))
        if self.rewards.scale is not None:
            self.rewards.scale.load_state_dict(below(state, "returns/"))
        if self.cloning is not None:
            self.cloning.load_state_dict(below(state, "cloning/"))
        load_torch_state(self.generator, state["random/torch"])
        if "random/numpy" in state:  # earlier versions of PPO drew nothing from it
            load_numpy_state(self.rng, state["random/numpy"])
        if "progress" in state:
            self.set_progress(int(state["progress"]))
        else:  # earlier versions of SAC saved what followed from it
            for optimizer in self.optimizers.values():
                optimizer.learning_rate.copy_(state["learning_rate"])
        self.updates = int(state["updates"])

    def _look_at_demonstrations(self) -> None:
        """Begins the normaliser with all demonstrations."""
        normalized = self.policy.normalized
        names = tuple(name for name, chosen in zip(observation_names(self.spec), normalized) if chosen)
        if not names or not self.demos:
            return
        gathered = (rows.gather(np.arange(1, rows.head + 1), names) for rows in self.demos.values())
        joined = iter([np.concatenate(parts) for parts in zip(*gathered)])
        self.normalize([next(joined) if chosen else np.zeros(0) for chosen in normalized])
        if self.normalizer.count:
            self._demonstrated = self.normalizer.moments()

    def _make_networks(self, signals: RewardSettings, demos: Mapping[str, Rows], seed: int) -> Mapping[str, Network]:
        """Makes the policy, the signals that are paid for what it does, and the networks that learn what that earns."""
        settings = self.settings
        self.policy = Policy(self.spec, settings.network, settings.kind)
        self.policy.move_to(self.policy.flat.to(self.device))
        weighed = settings.discount, settings.normalize_returns, self.value_of
        self.rewards = make_rewards(signals, self.policy, demos, seed, *weighed)
        return self.build()

    def _place(self, networks: Mapping[str, Network]) -> None:
        """Lays all parameters into one vector: the policy's (its normaliser first), those learned, and the others."""
        self.parameters: dict[str, list[nn.Parameter]] = {"policy": list(self.policy.parameters())}
        """By network, `policy` among them."""
        self.vectors: dict[str, Tensor] = {}
        """All parameters (P,) of each network, `policy` among them."""
        for name, network in networks.items():
            self.parameters[name] = [network] if isinstance(network, nn.Parameter) else list(network.parameters())
            if isinstance(network, nn.Module):
                network.to(self.device)  # buffers that are no parameters
        learned = {name: any(p.requires_grad for p in own) for name, own in self.parameters.items()}
        names = sorted(networks, key=lambda name: not learned[name])
        sizes = [self.policy.flat.numel(), *(sum(p.numel() for p in self.parameters[name]) for name in names)]
        self._storage = storage = torch.empty(sum(sizes), device=self.device)
        published, *others = torch.split(storage, sizes)
        self.policy.move_to(published)
        start = self.policy.parameter_start
        self.vectors["policy"] = published[start:]
        for name, vector in zip(names, others):
            place(self.parameters[name], vector)
            self.vectors[name] = vector
        ranges = {name: vector for name, vector in self.vectors.items() if learned[name]}
        own_sizes = [vector.numel() for vector in ranges.values()]
        if self.joint_optimizer:
            ranges = {"all": storage[start : start + sum(own_sizes)]}
            self.parameters["all"] = [p for name in ("policy", *names) if learned[name] for p in self.parameters[name]]
        chosen = self.settings
        sizes = own_sizes if self.joint_optimizer else []
        self.optimizers = {
            name: FlatAdam(vector, chosen.learning_rate, chosen.max_gradient_norm, sizes)
            for name, vector in ranges.items()
        }


def make_algorithm(
    spec: BehaviorSpec,
    settings: AlgorithmSettings,
    rows: Rows,
    device: torch.device,
    seed: int,
    rewards: RewardSettings,
    demos: Mapping[str, Rows],
) -> Algorithm:
    """Returns the algorithm that is set, to learn from `rows`; `demos` holds, by path, what the settings name.

    Raises UserError if a user's own cannot be made, or would wait for what the buffer cannot hold.
    """
    about = f"algorithm.path: {settings.algorithm}"
    kind: type[Algorithm] = algorithm_class(settings, "algorithm.path")
    try:
        made = kind(spec, settings.own(), rows, device, seed, rewards, demos)
    except Exception as error:
        if isinstance(error, UserError) or not settings.user_code:
            raise
        raise UserError(f"{about} cannot be made for behavior {spec.name!r} ({words_of(error)})") from error
    _check_pace(made, rows, about)
    return made


def _check_pace(made: Algorithm, rows: Rows, about: str) -> None:
    """Refuses counts that make no sense, and a buffer that is too small for what may wait in it."""
    for name, least in {"updates": 0, "publish_every": 1, "start_samples": 0, "dropped": 0}.items():
        value = getattr(made, name)
        if not isinstance(value, int) or value < least:
            raise UserError(f"{about} has {name}={value!r}: it must be an int, {least} or more")
    for name in ("updates_per_sample", "tolerance"):
        value = getattr(made, name, None)
        if not isinstance(value, (int, float)) or not 0 < value < math.inf:
            raise UserError(f"{about} has {name}={value!r}: it must be a finite number above 0")
    one_update = 1 / made.updates_per_sample
    if made.tolerance < one_update * (1 - 1e-6):
        raise UserError(
            f"{about} has tolerance={made.tolerance:g}: it must be {one_update:g}, one update's samples, or more"
        )
    # A step that is cut off takes two rows: its own and that of its last observation.
    needed = 2 * math.ceil(max(made.start_samples, made.tolerance + one_update))
    if made.settings.user_code and rows.capacity < needed:
        raise UserError(
            f"{about} may let samples wait that take {needed:,} rows, and the buffer holds {rows.capacity:,}: "
            "raise algorithm.buffer_memory_mib or algorithm.buffer_capacity, or let it update on fewer"
        )
