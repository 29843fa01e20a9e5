"""Draws charts as SVG that takes its colours from the page around it, so that one drawing serves light and dark."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from trainer.report.curves import Chart, Curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SERIES = 6
"""Colours of curves that the page has: `--series-0`, ...; further curves begin again, dashed."""


def draw(chart: Chart, name: str) -> str:
    """Returns the chart as an `<svg>` element; `name` is unique on the page."""
    return painted(lambda axes: _paint(chart, axes), name)


def painted(paint: Callable[[Axes], None], name: str, size: tuple[float, float] = (4.2, 2.3)) -> str:
    """Returns what `paint` draws with the stand-ins for colours, as an `<svg>` element of a size in inches."""
    import matplotlib
    from matplotlib.figure import Figure

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=size, layout="constrained")
        paint(figure.subplots())
        content = io.StringIO()
        left_out = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(content, format="svg", transparent=True, metadata=left_out)
    return _embedded(content.getvalue(), name)


def _paint(chart: Chart, axes: Axes) -> None:
    curves = chart.curves
    if chart.stacked:
        # One upon another; each value holds from the point before.
        values = [curve.values for curve in curves.values()]
        colours = [colour(place) for place in range(len(values))]
        axes.stackplot(next(iter(curves.values())).samples, *values, colors=colours, linewidth=0, step="pre")
    else:
        curves = {label: _finite(curve) for label, curve in curves.items()}
        for place, (label, curve) in enumerate(curves.items()):
            marker = "o" if len(curve.samples) == 1 else ""
            line = "-" if place < SERIES else "--"
            if (band := chart.bands.get(label)) is not None:
                axes.fill_between(curve.samples, *band, color=colour(place), alpha=0.2, linewidth=0)
            axes.plot(*curve, color=colour(place), marker=marker, markersize=4, linestyle=line, linewidth=1.5)
    if chart.target is not None:
        axes.axhline(chart.target, color=INK, linestyle=(0, (4, 3)), linewidth=1)
    _set_axes(axes, chart, curves)


def colour(place: int) -> str:
    """Returns the stand-in for the colour of a curve, which `draw` exchanges for the page's variable."""
    return f"#00000{place % SERIES + 1}"


def _finite(curve: Curve) -> Curve:
    """Returns the curve without NaN and infinite values, which cannot be drawn."""
    kept = [(samples, value) for samples, value in zip(*curve) if math.isfinite(value)]
    return Curve([samples for samples, _ in kept], [value for _, value in kept])


def _set_axes(axes: Axes, chart: Chart, curves: Mapping[str, Curve]) -> None:
    from matplotlib.ticker import EngFormatter, MaxNLocator, PercentFormatter

    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.yaxis.set_major_locator(MaxNLocator(4))
    axes.set_xlabel("samples")
    ends = [curve.samples[-1] for curve in curves.values() if curve.samples]
    axes.set_xlim(0, max([chart.until, *ends]) * 1.02 or 1)
    axes.grid(axis="y", linewidth=0.6)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(length=0)
    low, high = axes.get_ylim()
    level = _level(chart, curves)
    if level is not None and not chart.percent:
        around = abs(level) / 2 or 1.0
        axes.set_ylim(level - around, level + around)
        axes.set_yticks([level], [f"{level:.4g}"])
    elif chart.percent:
        most = (
            1.0 if chart.stacked else max((value for curve in curves.values() for value in curve.values), default=0.0)
        )
        top = 1.1 * most if 0 < most < _LOW or most > 1 else 1.0
        axes.set_ylim(0 if chart.stacked else -0.01 * top, top)  # a line at 0 is seen whole
        if top == 1:
            axes.set_yticks([0, 0.25, 0.5, 0.75, 1])
        axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=None))
    elif max(abs(low), abs(high)) >= 1e4:
        axes.yaxis.set_major_formatter(EngFormatter(sep=""))


def _level(chart: Chart, curves: Mapping[str, Curve]) -> float | None:
    """Returns the one value that all curves have but for rounding; None if they differ, or something else is drawn."""
    values = [value for curve in curves.values() for value in curve.values]
    if chart.target is not None or chart.bands or not values:
        return None
    low, high = min(values), max(values)
    return low if high - low <= _ROUNDING * max(abs(low), abs(high)) else None


def _embedded(document: str, name: str) -> str:
    """Returns the `<svg>` of a document, sized and coloured by the page, with ids of its own."""
    svg = document[document.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style .*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' (width|height)="[\d.]+pt"', "", svg, count=2)
    svg = re.sub(r'( id="|url\(#|href="#)', rf"\g<1>{name}-", svg)
    svg = re.sub(r"#00000([1-9])", lambda match: f"var(--series-{int(match[1]) - 1})", svg)
    return svg.replace(INK, "var(--ink)").replace(MUTED, "var(--muted)").replace(LINE, "var(--line)")


_ROUNDING = 1e-5
"""Share of a value by which it may move and still is drawn as a flat line."""
_LOW = 0.25
"""Shares below are drawn larger than on a scale to 100 %."""
INK, MUTED, LINE = "#0000f1", "#0000f2", "#0000f3"
"""Stand-ins for colours of the page, as those of `colour`."""
_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "the same page each time",
    "font.size": 9,
    "text.color": MUTED,
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "axes.axisbelow": True,
    "axes.formatter.useoffset": False,
    "grid.color": LINE,
    "xtick.color": LINE,
    "ytick.color": LINE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
}
