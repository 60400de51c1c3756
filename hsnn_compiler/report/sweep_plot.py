"""A sweep as a picture: accuracy against T, and beside it what it costs."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hsnn_compiler.diagnostics import refuse
from hsnn_compiler.report.sweep_table import MICRO, differing

if TYPE_CHECKING:
    from hsnn_compiler.sweep import Point, Trial

# Okabe and Ito's colours, told apart by colour-blind people too.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#e69f00", "#000000")
MARKERS, DASHES = "osD^vPX", ("-", ":", "-.")
MANY = 6
"""More lines than that have their names beside the picture."""
INK, GRID = "#222222", "#dddddd"


def require_matplotlib() -> None:
    """Refuse (E0703) where matplotlib is missing."""
    if importlib.util.find_spec("matplotlib") is None:
        raise refuse(
            "E0703", "pictures are drawn with matplotlib, which is not installed", suggestion="pip install matplotlib"
        )


def draw(points: Sequence[Point], trial: Trial, name: str, path: Path) -> None:
    """Write a picture in the format that the file's suffix names; the same points give the same bytes.

    Left: the share of right predictions against T, integers as lines, real numbers as crosses, the source dashed.
    Right: estimated energy per inference. One line for each combination of the other options; what was refused has
    no point.
    """
    require_matplotlib()
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator

    shown = [point for point in points if point.timesteps]
    with mpl.rc_context({"svg.hashsalt": "hsnn-compiler", "font.size": 10, "axes.edgecolor": INK}):
        lines = _lines(shown)
        figure = Figure(figsize=(10, max(4.2, 0.2 * len(lines))), layout="constrained")
        left, right = figure.subplots(1, 2)
        for number, (label, line) in enumerate(lines.items()):
            style = {
                "color": COLOURS[number % len(COLOURS)],
                "marker": MARKERS[number % len(MARKERS)],
                "ls": DASHES[number // len(COLOURS) % len(DASHES)],
            }
            steps = [point.timesteps for point in line]
            left.plot(steps, _numbers(100, [point.score for point in line]), label=label, ms=5, lw=1.8, **style)
            before = _numbers(100, [point.before_quantisation for point in line])
            left.plot(steps, before, "x", ms=6, color=style["color"])
            right.plot(steps, _numbers(MICRO, [point.energy for point in line]), ms=5, lw=1.8, **style)
        left.axhline(100 * trial.source, color=INK, ls="--", lw=1.2, label=f"source {100 * trial.source:.2f}%")
        left.plot([], [], "x", color="#777777", label="before quantisation")
        left.set(title=f"{name}: {trial.what}", ylabel=f"% of {len(trial.x):,} samples")
        right.set(title="energy per inference: an estimate", ylabel="~ µJ")
        for axes in (left, right):
            _time_axis(axes, sorted({point.timesteps for point in shown if point.timesteps}))
        if any(point.energy for point in shown):
            right.set_yscale("log")
            right.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            right.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
            right.minorticks_off()
        title = ", ".join(name.replace("_", " ") for name in differing(points)) or None
        if len(lines) > MANY:
            figure.legend(frameon=False, loc="outside right upper", fontsize=9, title=title)
        else:
            left.legend(frameon=False, loc="lower right", fontsize=9, title=title)
        metadata = {"Date": None} if path.suffix.lower() == ".svg" else {}
        figure.savefig(path, dpi=150, metadata=metadata)


def _numbers(unit: float, values: Sequence[float | None]) -> list[float]:
    """In another unit; what is missing leaves a gap in a line."""
    return [math.nan if value is None else unit * value for value in values]


def _lines(points: Sequence[Point]) -> dict[str, list[Point]]:
    """Points by what they are called, in the order of T; without lines of which all was refused."""
    names = differing(points)
    found: dict[str, list[Point]] = {}
    for point in points:
        label = ", ".join(str(getattr(point, name)) for name in names) or "integers"
        found.setdefault(label, []).append(point)
    return {
        label: sorted(line, key=lambda point: point.timesteps or 0)
        for label, line in found.items()
        if any(point.score is not None for point in line)
    }


def _time_axis(axes: Any, steps: Sequence[int]) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xticks(steps, [str(step) for step in steps], minor=False)
    axes.minorticks_off()
    axes.set_xlabel("time steps per sample, T")
    axes.grid(color=GRID, lw=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
