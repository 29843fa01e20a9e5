"""`python -m benchmarks.plot_runs goal/bubbles out.png SAC=runs/… PPO=runs/… --target 24.9` draws a scalar of runs.

Reads TensorBoard's events; needs matplotlib, from the extra `bench`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from envs.spec import UserError


def main(argv: list[str] | None = None) -> int:
    """Draws the picture; 0, or 2 for bad input."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scalar", help="as TensorBoard names it")
    parser.add_argument("picture", type=Path, help="file to write: .png or .svg")
    parser.add_argument("runs", nargs="+", metavar="LABEL=FOLDER")
    parser.add_argument("--target", type=float, help="draws a line there")
    options = parser.parse_args(argv)
    try:
        curves = {run.partition("=")[0]: _points(Path(run.partition("=")[2]), options.scalar) for run in options.runs}
        _draw(options.scalar, curves, options.target, options.picture)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _points(folder: Path, scalar: str) -> list[tuple[int, float]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder)).Reload()
    known = events.Tags()["scalars"]
    if scalar not in known:
        raise UserError(f"{folder} has no scalar {scalar!r}; it has {', '.join(known) or 'none'}")
    return [(point.step, point.value) for point in events.Scalars(scalar)]


def _draw(scalar: str, curves: dict[str, list[tuple[int, float]]], target: float | None, picture: Path) -> None:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UserError("matplotlib is missing: pip install outstep[bench]") from error
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    for label, points in curves.items():
        axes.plot([samples for samples, _ in points], [value for _, value in points], label=label, linewidth=2)
    if target is not None:
        axes.axhline(target, color="black", linestyle="--", linewidth=1, label=f"target {target:g}")
    axes.set_xlabel("samples")
    axes.set_ylabel(scalar)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(picture, dpi=120)


if __name__ == "__main__":
    sys.exit(main())
