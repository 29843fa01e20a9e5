"""What metrics are called where people read them: the one table of their names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from trainer.telemetry.metrics import EPISODES

_LAST = f"mean of the last {EPISODES} episodes"


class Named(NamedTuple):
    """A metric's name for people."""

    title: str
    note: str = ""
    """Its unit, or how to read it; may be empty."""
    percent: bool = False
    """Whether it is a share, which people read in percent."""


NAMES = {
    "episode/reward": Named("Reward", _LAST),
    "episode/group_reward": Named("Reward of the group", f"of groups that ended among the last {EPISODES} episodes"),
    "episode/length": Named("Episode length", f"samples, {_LAST}"),
    "evaluation/reward_deviation": Named("Deviation of the reward in evaluations", "over the episodes of each"),
    "run/samples_per_second": Named("Samples a second", "over each interval between two points"),
    "run/env_utilization": Named("Env utilization", "of what the games could have delivered", True),
    "run/seconds": Named("Time", "seconds of training"),
    "instances/smallest_share": Named("Smallest share of an instance", "of all samples", True),
    "instances/largest_share": Named("Largest share of an instance", "of all samples", True),
    "loss/policy": Named("Policy loss"),
    "loss/value": Named("Value loss"),
    "loss/baseline": Named("Baseline loss"),
    "loss/critic": Named("Critic loss"),
    "policy/entropy": Named("Entropy of the policy", "nats; high: the policy tries many things"),
    "policy/entropy_discrete": Named("Entropy of choices", "nats; high: the policy tries many things"),
    "policy/deviation": Named("Deviation of actions", "mean standard deviation of continuous actions, from -1 to 1"),
    "policy/kl": Named("Step of the policy", "KL divergence of an update, in nats"),
    "policy/clip_fraction": Named("Clipped samples", "share whose probability ratio was clipped", True),
    "policy/importance_weight": Named("Weight of stale samples", "mean; 1 on fresh data"),
    "value/explained_variance": Named(
        "Explained variance of the values", "1: values foresee all returns; 0: no more than a constant would"
    ),
    "ppo/value": Named("Mean value", "in the game's units"),
    "poca/baseline": Named("Mean baseline", "value of the group whatever the agent does, in the game's units"),
    "ppo/return": Named("Mean return", "that values should have, in the game's units"),
    "ppo/lag": Named("Age of the samples", "versions of the policy, mean"),
    "ppo/clip": Named("Clip", "how far the probability ratio may move"),
    "ppo/entropy_coef": Named("Weight of the entropy bonus"),
    "sac/value": Named("Mean target of the critics", "in the game's units"),
    "update/count": Named("Updates", "so far"),
    "update/achieved": Named("Updates achieved", "of those that the samples asked for", True),
    "update/learning_rate": Named("Learning rate"),
    "update/dropped_share": Named("Samples dropped lately", "share that was too old to be learned from", True),
    "update/dropped_samples": Named("Samples dropped", "too old to be learned from, so far"),
    "update/skipped_share": Named("Gradient steps skipped lately", "share whose gradient was not finite", True),
    "update/skipped_non_finite": Named("Gradient steps skipped", "as their gradient was not finite, so far"),
    "observations/constant": Named("Constant observations", "how many have never changed"),
    "self_play/elo": Named("Elo rating", "of self-play"),
    "self_play/win_rate": Named("Matches won", "of the last 100 that were rated, a draw counts half", True),
    "self_play/rated": Named("Matches rated", "of all in which it learned", True),
    "self_play/snapshots": Named("Snapshots", "of its policy, so far"),
    "self_play/learning_team": Named("Team that learns"),
    "cloning/loss": Named("Cloning loss"),
    "cloning/weight": Named("Weight of cloning", "beside the algorithm's own loss"),
    "gail/loss": Named("Loss of GAIL", "1.39: the discriminator knows nothing"),
    "gail/gradient_penalty": Named("Gradient penalty of GAIL"),
    "gail/accuracy_demonstrated": Named("GAIL is right about demonstrations", "share", True),
    "gail/accuracy_own": Named("GAIL is right about the agent", "share", True),
    "gail/score_demonstrated": Named("GAIL's score of demonstrations", "1: surely demonstrated"),
    "gail/score_own": Named("GAIL's score of the agent", "1: surely demonstrated"),
    "gail/score_absorbing": Named("GAIL's score of what follows an end", "1: surely demonstrated"),
    "curiosity/loss_forward": Named("Surprise of curiosity", "loss of its model of what comes next"),
    "curiosity/loss_inverse": Named("Inverse loss of curiosity", "how badly it tells which action was taken"),
    "rnd/loss": Named("Surprise of RND", "loss of its predictor"),
}
"""Metrics that always have the same name in code."""

_OF_EACH = {
    "policy/entropy_": Named("Entropy of {}", "nats"),
    "sac/temperature_": Named("Temperature of {}", "weight of its entropy"),
    "constant/": Named("{} never changes", "1: it has not so far"),
    "not_finite/": Named("{} was not finite", "in updates that were skipped"),
    "instances/share_": Named("Share of instance {}", "of all samples", True),
    "lesson/": Named("Lesson of {}", "from 1 on"),
    "self_play/against_": Named("Matches won against {}", "of about the last 100", True),
    "evaluation/": Named("{} in evaluations", "while training, with the likeliest actions"),
    "goal/": Named("{}, for the goal", "mean over the goal's window"),
    "episode/": Named("{}", _LAST),
    "game/": Named("{}", "sent by the game"),
}
"""By how they begin, metrics of which there is one for each of something."""


def named(metric: str) -> Named:
    """Returns the name of a metric; what users or their games have named keeps that name."""
    return NAMES.get(metric) or next(_matching(metric), None) or Named(_words(metric))


def _matching(metric: str) -> Iterator[Named]:
    for beginning, (title, note, percent) in _OF_EACH.items():
        if metric.startswith(beginning):
            rest = metric.removeprefix(beginning)
            if beginning in ("evaluation/", "goal/") and f"episode/{rest}" in NAMES:
                rest = NAMES[f"episode/{rest}"].title
            yield Named(title.format(_block(rest)), note, percent)
    if metric.startswith("reward/"):
        signal = metric.removeprefix("reward/")
        if signal.endswith("_return_scale"):
            yield Named(f"Scale of returns: {signal.removesuffix('_return_scale')}", "in the reward's units")
        yield Named(f"Reward signal: {signal}", "mean for each sample, with its strength")
    part, _, rest = metric.partition("/")
    if rest in ("skipped_non_finite", "skipped_share"):
        yield NAMES[f"update/{rest}"]._replace(title=f"{NAMES[f'update/{rest}'].title}, of {part}")


def _block(name: str) -> str:
    """Returns what is said of an action block."""
    if name == "continuous":
        return "continuous actions"
    return f"branch {name.removeprefix('branch_')}" if name.startswith("branch_") else name


def _words(metric: str) -> str:
    """Returns the words of a name that nobody has explained."""
    part, slash, rest = metric.rpartition("/")
    words = rest.replace("_", " ").strip() or metric
    return f"{words[:1].upper()}{words[1:]}" + (f" ({part})" if slash else "")
