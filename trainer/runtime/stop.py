"""What ends a run, and what is said of one that has ended already."""

from __future__ import annotations

from trainer.checkpoint import Checkpoint
from trainer.config.schema import BehaviorConfig, BehaviorStopConfig, StopConfig, TrainConfig, behavior_config
from trainer.curriculum import Curriculum
from trainer.selfplay.ratings import saved_rating
from trainer.telemetry.goal import Goal
from trainer.telemetry.metrics import EpisodeStatistics


def stop_reason(
    stop: StopConfig,
    samples: int,
    seconds: float,
    reward: float | None,
    goal_reached: bool,
    rating: float | None = None,
) -> str | None:
    """Returns `goal`, `samples`, `seconds`, `reward` or `rating`, whichever ends a run; None while nothing does."""
    if goal_reached:
        return "goal"
    if stop.samples is not None and samples >= stop.samples:
        return "samples"
    if stop.seconds is not None and seconds >= stop.seconds:
        return "seconds"
    if stop.reward is not None and reward is not None and reward >= stop.reward:
        return "reward"
    if stop.rating is not None and rating is not None and rating >= stop.rating:
        return "rating"
    return None


def has_end(behavior: BehaviorConfig) -> bool:
    """Returns whether anything is set that ends a behavior's learning."""
    return behavior.stop != BehaviorStopConfig() or behavior.goal.metric is not None


def endless(config: TrainConfig) -> bool:
    """Returns whether nothing ends the run but its user. It also ends with the learning of all its behaviors."""
    stop = config.stop
    limits = (stop.samples, stop.seconds, stop.reward, stop.rating, config.goal.metric)
    ended = bool(config.behaviors) and all(map(has_end, config.behaviors.values()))
    return all(limit is None for limit in limits) and not ended


def behavior_end(
    behavior: BehaviorConfig, samples: int, reward: float | None, goal_reached: bool, rating: float | None = None
) -> tuple[str, float | str] | None:
    """Returns what ends a behavior's learning, such as `stop.samples` or `goal.metric`, and its value."""
    stop = StopConfig(behavior.stop.samples, None, behavior.stop.reward, behavior.stop.rating)
    reason = stop_reason(stop, samples, 0, reward, goal_reached, rating)
    if reason is None:
        return None
    if reason == "goal":
        return "goal.metric", str(behavior.goal.metric)
    return f"stop.{reason}", getattr(behavior.stop, reason)


def still_ended(behavior: BehaviorConfig, ended: tuple[str, float | str] | None) -> bool:
    """Returns whether what has ended a behavior's learning is set as it was then: a resumed run may be given more."""
    if ended is None:
        return False
    group, _, name = ended[0].partition(".")
    return bool(getattr(getattr(behavior, group), name) == ended[1])


def finished(config: TrainConfig, checkpoint: Checkpoint) -> str | None:
    """Returns what ended the run of a checkpoint, and how to go on; None if there is something left to do."""
    report = checkpoint.state["report"]
    curriculum = Curriculum(config.env.read_parameters(), checkpoint.state.get("curriculum"))
    samples = sum(each["samples"] for each in checkpoint.state["behaviors"].values())
    episodes = EpisodeStatistics()
    episodes.load_state(report.get("lessons") or report["episodes"])
    reward = episodes.mean("reward") if episodes.full and curriculum.finished else None
    goal = Goal(config.goal) if config.goal.metric is not None else None
    if goal is not None and report["goal"]:
        goal.load_state(report["goal"])
    reached = goal is not None and goal.reached is not None
    rating = saved_rating(checkpoint.state.get("self_play", {}))
    reason = stop_reason(config.stop, samples, report["seconds"], reward, reached, rating)
    run = f"The run in {config.resume} is finished:"
    if reason is None:
        return _all_ended(config, checkpoint, run)
    if reason == "goal":
        return (
            f"{run} it has reached its goal, {config.goal.metric}. A new run can go on from its weights: "
            f"init={config.resume}"
        )
    has = {"samples": f"{samples:,} samples", "seconds": f"{report['seconds']:.0f} s", "reward": f"{reward}"}
    has["rating"] = f"a rating of {rating}"
    return (
        f"{run} stop.{reason}={getattr(config.stop, reason)} is reached, it has {has[reason]}. To go on, give more: "
        f"resume={config.resume} stop.{reason}=..."
    )


def _all_ended(config: TrainConfig, checkpoint: Checkpoint, run: str) -> str | None:
    ends = {name: each.get("ended") for name, each in checkpoint.state["behaviors"].items()}
    if not all(still_ended(behavior_config(config, name), end) for name, end in ends.items()):
        return None
    keys = [f"behaviors.{name}.{key}" for name, (key, _) in ends.items()]
    more = " ".join(f"{key}=..." for key in keys if not key.endswith("goal.metric"))
    return f"{run} all behaviors have reached what ends them ({', '.join(keys)}). To go on, give more: " + (
        f"resume={config.resume} {more}" if more else f"a new run, with init={config.resume}"
    )
