"""The ladder as a picture: how each run came down to the goal, by seconds. Needs matplotlib, from the extra `bench`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.ladder_report import RUNGS

_COLOURS = dict(zip(RUNGS, ("#7f7f7f", "#1f77b4", "#1b9e77", "#e08214", "#b2182b")))


def draw(runs: Mapping[str, Sequence[Path]], goal: Mapping[str, Any], picture: Path) -> None:
    """Draws the goal's mean of all runs: a colour for each rung, a thin line for each seed, a dot at its end.

    Args:
        runs: by rung, the runs' folders.
        goal: `metric`, `at_most` and `window` (samples).
        picture: the file to write, .png or .svg.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    for name, folders in runs.items():
        axes.plot([], [], color=_COLOURS[name], label=name)
        for folder in folders:
            points = curve(folder, f"goal/{goal['metric']}", goal["window"])
            axes.plot(*zip(*points), color=_COLOURS[name], linewidth=1)
            axes.plot(*zip(*points[-1:]), "o", color=_COLOURS[name], markersize=4)
    axes.axhline(goal["at_most"], color="black", linestyle="--", linewidth=1, label=f"mastered: {goal['at_most']:g}")
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(lambda seconds, _: f"{seconds:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("seconds")
    axes.set_ylabel(f"mean {goal['metric']} over {goal['window']:,} samples")
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(picture, dpi=120)


def curve(folder: Path, scalar: str, since: int) -> list[tuple[float, float]]:
    """A scalar of TensorBoard's events by the run's seconds, from the sample `since` on; empty if it was never written.

    Before a window of samples is full, short games count too much.
    """
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder)).Reload()
    if scalar not in events.Tags()["scalars"]:
        return []
    seconds = {point.step: point.value for point in events.Scalars("run/seconds")}
    return [(seconds[point.step], point.value) for point in events.Scalars(scalar) if point.step >= since]
