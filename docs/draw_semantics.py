"""Draws docs/step.svg: the order of a step, and one neuron under every ``reset_at``, as the float executor runs it.

python docs/draw_semantics.py
"""

from __future__ import annotations

from pathlib import Path

import nir
import numpy as np

from hsnn_compiler.ir import Dynamics, Graph, Node
from hsnn_compiler.ir.types import Coding, TensorType
from hsnn_compiler.reference.float_executor import FloatExecutor

OUT = Path(__file__).with_name("step.svg")
TAU, THRESHOLD, INPUT, STEPS, FINE = 4.0, 1.0, 1.7, 22, 50
WIDTH, HEIGHT, LEFT, RIGHT = 980, 770, 232, 24
FONT = "font-family='DejaVu Sans, Verdana, Arial, sans-serif'"
INK, FAINT, GRID = "#222222", "#666666", "#dddddd"
COLOURS = {"spike": "#0072b2", "before": "#b85c00", "after": "#00805f", "crossing": "#9b4f96"}
WORDS = {
    "spike": ("in the step that fires,", "after the test"),
    "before": ("in the next step,", "before it integrates"),
    "after": ("in the next step,", "after it has integrated"),
    "crossing": ("at the instant of the", "crossing; then it goes on"),
}


def simulate(reset_at: str, dt: float) -> tuple[np.ndarray, np.ndarray]:
    """Spikes and recorded potentials of the neuron, a value per step."""
    full = np.ones(1)
    op = nir.LIF(tau=TAU * full, r=full, v_leak=0 * full, v_threshold=THRESHOLD * full, v_reset=0 * full)
    graph = Graph("neuron")
    graph.add(Node("input", nir.Input(np.array([1])), TensorType((1,), Coding.CURRENT)))
    dynamics = Dynamics(dt, "exact", reset_at=reset_at)
    graph.add(Node("n", op, TensorType((1,), Coding.SPIKES), dynamics=dynamics), "input")
    graph.add(Node("output", nir.Output(np.array([1])), TensorType((1,), Coding.SPIKES)), "n")
    x = np.full((1, round(STEPS / dt), 1), INPUT, np.float32)
    trace = FloatExecutor(graph).run(x, [("n", "s"), ("n", "v")]).trace
    return trace["n", "s"].ravel(), trace["n", "v"].ravel()


def text(x: float, y: float, words: str, size: int = 13, fill: str = INK, more: str = "") -> str:
    """One line of text."""
    words = words.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return f"<text x='{x:.1f}' y='{y:.1f}' font-size='{size}' fill='{fill}' {more}>{words}</text>"


def line(x1: float, y1: float, x2: float, y2: float, stroke: str, width: float = 1, more: str = "") -> str:
    """A straight line."""
    ends = f"x1='{x1:.1f}' y1='{y1:.1f}' x2='{x2:.1f}' y2='{y2:.1f}'"
    return f"<line {ends} stroke='{stroke}' stroke-width='{width}' {more}/>"


def order() -> list[str]:
    """The boxes of one step, from left to right."""
    boxes = [
        ("reset", "reset_at=before", COLOURS["before"]),
        ("u = ...", "synaptic current", None),
        ("v = ...", "integrates", None),
        ("reset", "reset_at=after", COLOURS["after"]),
        ("v >= v_min", "lower bound", None),
        ("v > threshold?", "the test: s", None),
        ("reset", "spike, crossing", COLOURS["spike"]),
    ]
    wide, gap, top, high = 118, 17, 62, 50
    found = [text(24, 32, "One step", 17, more="font-weight='bold'")]
    for i, (head, below, colour) in enumerate(boxes):
        x = 24 + i * (wide + gap)
        found.append(
            f"<rect x='{x}' y='{top}' width='{wide}' height='{high}' rx='5' fill='{'#fff' if colour else '#f3f3f3'}' "
            f"stroke='{colour or FAINT}' stroke-width='{2 if colour else 1}'/>"
        )
        middle = x + wide / 2
        found.append(text(middle, top + 21, head, 13, colour or INK, "text-anchor='middle' font-weight='bold'"))
        found.append(text(middle, top + 39, below, 11, colour or FAINT, "text-anchor='middle'"))
        if i:
            found.append(line(x - gap + 1, top + high / 2, x - 3, top + high / 2, INK, 1.5, "marker-end='url(#tip)'"))
    at = [24 + i * (wide + gap) + wide / 2 for i in range(len(boxes))]
    found.append(line(at[1], top + high + 24, at[1], top + high + 3, INK, 1.5, "marker-end='url(#tip)'"))
    found.append(text(at[1], top + high + 39, "I: sum over all edges in", 12, INK, "text-anchor='middle'"))
    found.append(line(at[5], top + high, at[5], top + high + 21, INK, 1.5, "marker-end='url(#tip)'"))
    found.append(text(at[5], top + high + 39, "s goes out", 12, INK, "text-anchor='middle'"))
    found.append(line(at[6], top + high, at[6], top + high + 21, INK, 1.5, "marker-end='url(#tip)'"))
    found.append(text(at[6], top + high + 39, "u, v are recorded", 12, INK, "text-anchor='middle'"))
    return found


def panel(reset_at: str, top: float, high: float, last: bool) -> list[str]:
    """Potentials and spikes of one run."""
    colour = COLOURS[reset_at]
    s, v = simulate(reset_at, 1.0)
    per = (WIDTH - LEFT - RIGHT) / STEPS

    def at(step: float, potential: float) -> tuple[float, float]:
        return LEFT + step * per, top + high - 4 - potential / 1.25 * (high - 26)

    found = [f"<rect x='{LEFT}' y='{top}' width='{STEPS * per:.1f}' height='{high}' fill='#fcfcfc' stroke='{GRID}'/>"]
    for step in range(1, STEPS):
        found.append(line(LEFT + step * per, top, LEFT + step * per, top + high, GRID, 0.6))
    _, level = at(0, THRESHOLD)
    found.append(line(LEFT, level, WIDTH - RIGHT, level, FAINT, 1, "stroke-dasharray='5 4'"))
    if reset_at == "crossing":
        fine = np.concatenate([[0.0], simulate(reset_at, 1 / FINE)[1]])
        points = " ".join("{:.1f},{:.1f}".format(*at(i / FINE, p)) for i, p in enumerate(fine))
        found.append(f"<polyline points='{points}' fill='none' stroke='#bbbbbb' stroke-width='1.5'/>")
    else:
        points = " ".join("{:.1f},{:.1f}".format(*at(i, p)) for i, p in enumerate([0.0, *v.tolist()]))
        found.append(f"<polyline points='{points}' fill='none' stroke='{colour}' stroke-width='1.2'/>")
    for step, (spike, potential) in enumerate(zip(s, v, strict=True)):
        x, y = at(step + 1, potential)
        found.append(f"<circle cx='{x:.1f}' cy='{y:.1f}' r='3.2' fill='{colour}'/>")
        if spike:
            found.append(f"<rect x='{x - 2:.1f}' y='{top + 3:.1f}' width='4' height='12' fill='{INK}'/>")
    found.append(text(24, top + 24, f"reset_at={reset_at}", 14, colour, "font-weight='bold'"))
    for i, words in enumerate(WORDS[reset_at]):
        found.append(text(24, top + 44 + 16 * i, words, 12))
    found.append(text(24, top + 82, f"{int(s.sum())} spikes in {STEPS} steps", 12, FAINT))
    found.append(text(LEFT - 6, level + 4, "1", 11, FAINT, "text-anchor='end'"))
    found.append(text(LEFT - 6, at(0, 0)[1] + 4, "0", 11, FAINT, "text-anchor='end'"))
    if last:
        for step in range(0, STEPS, 1):
            found.append(text(LEFT + (step + 0.5) * per, top + high + 17, str(step), 11, FAINT, "text-anchor='middle'"))
    return found


def draw() -> str:
    """The whole picture."""
    high, apart, first = 112, 14, 228
    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {HEIGHT}' {FONT}>",
        "<defs><marker id='tip' viewBox='0 0 8 8' refX='7' refY='4' markerWidth='6' markerHeight='6' orient='auto'>"
        f"<path d='M0 0 L8 4 L0 8 z' fill='{INK}'/></marker></defs>",
        f"<rect width='{WIDTH}' height='{HEIGHT}' fill='#ffffff'/>",
        *order(),
        text(24, 190, "One neuron, four moments of the reset", 17, more="font-weight='bold'"),
        text(
            24,
            212,
            f"LIF, tau = {TAU:g} steps, threshold {THRESHOLD:g}, constant input {INPUT:g}, exact integrator, "
            "reset to zero. Dots: recorded v at the end of each step. Bars: spikes.",
            12,
            FAINT,
        ),
    ]
    for i, reset_at in enumerate(COLOURS):
        parts += panel(reset_at, first + i * (high + apart), high, last=i == len(COLOURS) - 1)
    below = first + len(COLOURS) * (high + apart) + 20
    parts.append(text(LEFT, below, f"step; grey curve: the same run in steps of 1/{FINE}", 12, FAINT))
    return "\n".join([*parts, "</svg>", ""])


if __name__ == "__main__":
    OUT.write_text(draw(), "utf-8")
