"""The waterfall as a picture: a bar per stage, and what it lost or gained against the stage before."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hsnn_compiler.verify.waterfall import Waterfall

ROW, TOP, LEFT, WIDTH, NUMBERS = 26, 62, 230, 420, 150
INK, FAINT, GRID = "#222222", "#666666", "#dddddd"
COLOURS = {"": "#444444", "exact": "#0072b2", "bounded": "#00805f", "lossy": "#b85c00"}
FONT = "font-family='DejaVu Sans, Verdana, Arial, sans-serif'"


def draw(made: Waterfall) -> str:
    """SVG: accuracy where there are labels, else agreement with the source, else 1 - error of the outputs."""
    what, values = _values(made)
    low = max(0.0, min(1.0, min(values)) - 0.05)
    low = 0.0 if low < 0.5 else low
    height = TOP + ROW * len(values) + 34
    lines = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {LEFT + WIDTH + NUMBERS} {height}' {FONT}>",
        f"<rect width='{LEFT + WIDTH + NUMBERS}' height='{height}' fill='white'/>",
        _text(12, 24, f"{made.name}: {what}, T = {made.timesteps}, {made.outcomes[0].samples:,} samples", 15, INK),
    ]
    for tick in range(5):
        share = low + (1 - low) * tick / 4
        x = LEFT + WIDTH * tick / 4
        lines.append(f"<line x1='{x:.1f}' y1='{TOP - 8}' x2='{x:.1f}' y2='{height - 30}' stroke='{GRID}'/>")
        lines.append(_text(x, TOP - 14, f"{100 * share:.4g}%", 11, FAINT, "text-anchor='middle'"))
    before = values[0]
    for i, (outcome, value) in enumerate(zip(made.outcomes, values, strict=True)):
        y = TOP + ROW * i
        length = max(0.0, (value - low) / (1 - low)) * WIDTH
        colour = COLOURS.get(outcome.contract, FAINT)
        lines.append(_text(LEFT - 8, y + 14, _short(outcome.name), 12, INK, "text-anchor='end'"))
        lines.append(f"<rect x='{LEFT}' y='{y}' width='{length:.1f}' height='{ROW - 8}' fill='{colour}'/>")
        change = f" ({100 * (value - before):+.2f})" if i and abs(value - before) > 5e-5 else ""
        lines.append(_text(LEFT + WIDTH + 8, y + 14, f"{100 * value:.2f}%{change}", 12, INK))
        before = value
    x = LEFT
    for contract in ("exact", "bounded", "lossy"):
        lines.append(f"<rect x='{x}' y='{height - 22}' width='11' height='11' fill='{COLOURS[contract]}'/>")
        lines.append(_text(x + 16, height - 12, contract, 12, FAINT))
        x += 90
    return "\n".join([*lines, "</svg>"]) + "\n"


def _values(made: Waterfall) -> tuple[str, list[float]]:
    if all(outcome.accuracy is not None for outcome in made.outcomes):
        return "accuracy", [outcome.accuracy or 0.0 for outcome in made.outcomes]
    if all(outcome.agreement is not None for outcome in made.outcomes):
        return "predictions as the source", [outcome.agreement or 0.0 for outcome in made.outcomes]
    return "1 - error of the outputs", [1 - (outcome.output.error or 0.0) for outcome in made.outcomes]


def _short(name: str) -> str:
    return name if len(name) <= 30 else name[:29] + "…"


def _text(x: float, y: float, words: str, size: int, fill: str, more: str = "") -> str:
    return f"<text x='{x:.1f}' y='{y:.1f}' font-size='{size}' fill='{fill}' {more}>{escape(words)}</text>"
