"""Generative adversarial imitation (arXiv 1606.03476), off-policy and with absorbing states (arXiv 1809.02925).

A discriminator learns to tell demonstrated steps from the agent's own; an agent is paid for what is taken for
demonstrated. What follows the end of an episode that terminated is one more state, the absorbing one, in which an agent
stays for ever: the discriminator sees it like any other, so that living and dying earn nothing by themselves. As
nothing happens there, its value is known: its reward / (1 - discount).

Shapes: N steps, F features, X numbers of an action.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from algorithms.imitation.demonstrations import Demonstrations, Steps
from algorithms.metrics import Averages, load_torch_state, seeded
from algorithms.networks.encoders import initialize, is_image
from algorithms.networks.inputs import Encoder
from algorithms.networks.mlp import MLP
from algorithms.policy import Policy
from algorithms.rewards.action_inputs import ActionInputs
from algorithms.rewards.base import Scores
from algorithms.rewards.learned import LearnedSignal, OwnBatches
from algorithms.rewards.settings import GAILSettings, RewardType
from algorithms.settings import NetworkSettings
from buffers.rows import Rows
from envs.spec import BehaviorSpec


def discriminator_loss(logits: Tensor, terminated: Tensor, absorbing: Tensor, demonstrated: bool) -> Tensor:
    """() mean surprise of N steps' logits (N,), and of the absorbing state's () for each that terminated (N,) bool."""
    sign = -1 if demonstrated else 1
    ends = terminated.sum()
    return (F.softplus(sign * logits).sum() + ends * F.softplus(sign * absorbing)) / (len(logits) + ends)


def reward_of(logits: Tensor, reward_type: RewardType, bound: float) -> Tensor:
    """(...) what logits (...) pay by `reward_type`; a logit is log D - log(1 - D), and counts up to `bound`."""
    logits = logits.clamp(-bound, bound)
    if reward_type is RewardType["signed"]:
        return logits
    return F.softplus(logits) if reward_type is RewardType["positive"] else -F.softplus(-logits)


Seen = tuple[Tensor, ...]
"""What the discriminator sees of N steps, in float32: the policy's inputs (a vector (N, D), images, sets), then
(N, X + 1) actions and 1 in the absorbing state."""


class Discriminator(nn.Module):
    """Tells demonstrated steps from the agent's own."""

    def __init__(self, spec: BehaviorSpec, settings: GAILSettings, network: NetworkSettings) -> None:
        """`network` is the policy's, whose inputs it sees."""
        super().__init__()
        self.encoder = Encoder(spec, network)
        self.actions = ActionInputs(spec) if settings.use_actions else None
        actions = 0 if self.actions is None else self.actions.features
        self.trunk = MLP(self.encoder.features + actions + 1, settings.hidden, network.activation)
        self.head = nn.Linear(self.trunk.features, 1)
        initialize(self.head, 1.0)

    def forward(self, seen: Seen) -> Tensor:
        """(N,) logits: positive where steps look demonstrated."""
        features = torch.cat([self.encoder(seen[:-1]), seen[-1]], dim=-1)
        logits: Tensor = self.head(self.trunk(features))
        return logits[:, 0]

    def see(self, policy: Policy, steps: Steps) -> Seen:
        """What it sees of steps."""
        vector, *others = policy.prepare(steps.observations)
        rest = vector.new_zeros(len(vector), 1)
        if self.actions is not None:
            rest = torch.cat([self.actions(steps), rest], dim=-1)
        return (vector, *(x.float() for x in others), rest)


class GAIL(LearnedSignal):
    """Pays agents for what is taken for demonstrated. All randomness follows from `seed`."""

    vector_name = "discriminator"

    def __init__(self, name: str, settings: GAILSettings, policy: Policy, demos: Mapping[str, Rows], seed: int) -> None:
        super().__init__(name, settings, policy, demos, seed)
        self._demonstrations = Demonstrations(demos[str(settings.demos)], self.device, seed)
        self._batches = OwnBatches(settings.updates_per_sample, settings.batch_size, self.device, seed + 1)
        self._generator = Generator(self.device).manual_seed(seed + 2)
        self._discriminator = seeded(lambda: Discriminator(policy.spec, settings, policy.network), seed).to(self.device)
        self._place(self._discriminator)
        images = [o.scale for o in policy.spec.observations if is_image(o, policy.network)]
        self._scales = [1.0, *images, *(1.0 for _ in policy.sets)]
        self._averages = Averages(METRICS, self.device)

    @torch.no_grad()
    def score(self, steps: Steps) -> Scores:
        """Returns what N steps earn, and the absorbing state."""
        seen = self._discriminator.see(self.policy, steps)
        logits = self._discriminator(_join(seen, _absorbing(seen)))
        rewards = reward_of(logits, self.settings.reward_type, self.settings.bound)
        return Scores(rewards[:-1], rewards[-1])

    def state_dict(self) -> dict[str, Tensor]:
        """What an exact continuation needs."""
        return {
            "random/demonstrations": self._demonstrations.generator.get_state().clone(),
            "random/lines": self._generator.get_state().clone(),
            **super().state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Takes over what `state_dict` gave."""
        super().load_state_dict(state)
        load_torch_state(self._demonstrations.generator, state["random/demonstrations"])
        load_torch_state(self._generator, state["random/lines"])

    def _update(self, steps: Steps) -> None:
        """One gradient step, on these steps of the agent and as many that were demonstrated: nothing waits for it."""
        count = len(steps.terminated)
        demonstrated = self._demonstrations.draw(count)
        theirs = self._discriminator.see(self.policy, demonstrated)
        own = self._discriminator.see(self.policy, steps)
        logits = self._discriminator(_join(_join(theirs, own), _absorbing(own)))
        of_theirs, of_own, absorbing = logits[:count], logits[count : 2 * count], logits[-1]
        loss = discriminator_loss(of_theirs, demonstrated.terminated, absorbing, demonstrated=True)
        loss = loss + discriminator_loss(of_own, steps.terminated, absorbing, demonstrated=False)
        ends = _after_ends(theirs, demonstrated.terminated), _after_ends(own, steps.terminated)
        penalty = self._penalty(*ends)
        gradients = torch.autograd.grad(loss + self.settings.gradient_penalty * penalty, self._parameters)
        finite = self._optimizer.step(gradients)
        scores = logits.detach().sigmoid()
        scalars = [loss, penalty, (of_theirs > 0).float().mean(), (of_own < 0).float().mean()]
        scalars += [scores[:count].mean(), scores[count:-1].mean(), scores[-1]]
        self._averages.add(torch.stack(scalars), finite)

    def _penalty(self, theirs: Seen, own: Seen) -> Tensor:
        """() mean squared difference from 1 of the gradient's norm over all inputs, on lines between steps."""
        share = torch.rand(len(own[-1]), generator=self._generator, device=self._vector.device)
        mixed = [torch.lerp(one, other, _beside(share, one)).requires_grad_() for one, other in zip(theirs, own)]
        logits = self._discriminator(tuple(mixed))
        gradients = torch.autograd.grad(logits.sum(), mixed, create_graph=True)
        # Images are raw here: their gradient counts as that of what the network makes of them.
        scaled = (part / scale for part, scale in zip(gradients, (*self._scales, 1.0)))
        squares = torch.stack([part.flatten(1).square().sum(-1) for part in scaled]).sum(0)
        return (torch.sqrt(squares + EPSILON) - 1).square().mean()


METRICS = (
    "gail/loss",
    "gail/gradient_penalty",
    "gail/accuracy_demonstrated",
    "gail/accuracy_own",
    "gail/score_demonstrated",
    "gail/score_own",
    "gail/score_absorbing",
)
EPSILON = 1e-12
"""Added to a squared norm, whose root has no gradient at 0."""


def _absorbing(like: Seen) -> Seen:
    """Returns the absorbing state: zeros, and its mark."""
    state = tuple(torch.zeros_like(part[:1]) for part in like)
    state[-1][:, -1] = 1
    return state


def _after_ends(seen: Seen, terminated: Tensor) -> Seen:
    """The steps, but the absorbing state in place of those that ended their episode, (N,) bool."""
    going = (~terminated).float()
    after = tuple(part * _beside(going, part) for part in seen)
    after[-1][:, -1] = 1 - going
    return after


def _beside(numbers: Tensor, part: Tensor) -> Tensor:
    """Returns numbers (N,) in a shape that is multiplied with (N, ...)."""
    return numbers.view(-1, *[1] * (part.dim() - 1))


def _join(one: Seen, other: Seen) -> Seen:
    return tuple(torch.cat(parts) for parts in zip(one, other))
