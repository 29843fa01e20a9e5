"""What ends a run, and what is said of one that has ended already."""

from __future__ import annotations

from trainer.checkpoint import Checkpoint
from trainer.config.schema import StopConfig, TrainConfig
from trainer.curriculum import Curriculum
from trainer.telemetry.goal import Goal
from trainer.telemetry.metrics import EpisodeStatistics


def stop_reason(stop: StopConfig, samples: int, seconds: float, reward: float | None, goal_reached: bool) -> str | None:
    """Returns `goal`, `samples`, `seconds` or `reward`, whichever ends a run; None while nothing does."""
    if goal_reached:
        return "goal"
    if stop.samples is not None and samples >= stop.samples:
        return "samples"
    if stop.seconds is not None and seconds >= stop.seconds:
        return "seconds"
    if stop.reward is not None and reward is not None and reward >= stop.reward:
        return "reward"
    return None


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
    reason = stop_reason(config.stop, samples, report["seconds"], reward, goal is not None and goal.reached is not None)
    if reason is None:
        return None
    run = f"The run in {config.resume} is finished:"
    if reason == "goal":
        return (
            f"{run} it has reached its goal, {config.goal.metric}. A new run can go on from its weights: "
            f"init={config.resume}"
        )
    has = {"samples": f"{samples:,} samples", "seconds": f"{report['seconds']:.0f} s", "reward": f"{reward}"}
    return (
        f"{run} stop.{reason}={getattr(config.stop, reason)} is reached, it has {has[reason]}. To go on, give more: "
        f"resume={config.resume} stop.{reason}=..."
    )
