"""Draws docs/hybrid.svg: turns of host and chip of examples/digits/digits_has.pt, as compiled, and samples in time.

python docs/draw_hybrid.py
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from draw_semantics import FAINT, FONT, GRID, INK, line, text

import hsnn_compiler as hc
from hsnn_compiler.ir import Graph, Node
from hsnn_compiler.ir.stages import depths, host_stages, is_host, stages
from hsnn_compiler.report.partition import turns as table_of_turns

HERE = Path(__file__).parent
OUT = HERE / "hybrid.svg"
DIGITS = HERE.parent / "examples" / "digits"
WIDTH, HEIGHT = 980, 732
HOST, CHIP = "#0072b2", "#b85c00"
SAMPLES = ("#00805f", "#9b4f96", "#666666")
FILLS = {HOST: "#eef5fa", CHIP: "#fbf1e8"}
LANES = {HOST: 92, CHIP: 316}
LEFT, WIDE, APART, ROW = 24, 168, 23, 15
END = 36
"""Steps that the time line shows."""


class Turn(NamedTuple):
    """A turn of host or chip: its names, and where its box is."""

    name: str
    nodes: list[Node]
    colour: str
    x: float
    top: float

    @property
    def high(self) -> float:
        """Of the box."""
        return 34 + ROW * len(self.nodes)


def compiled() -> hc.Program:
    """The network, as the command line compiles it."""
    torch.set_num_threads(1)
    model = torch.load(DIGITS / "digits_has.pt", weights_only=False).eval()
    x = np.load(DIGITS / "digits_calib.npz")["x"]
    return hc.compile(model, calibration=x, example=x[:1])


def turns(graph: Graph) -> list[Turn]:
    """Host and chip in turns, from left to right."""
    number = stages(graph)
    hosts = {stage.number: [graph[name] for name in stage.nodes] for stage in host_stages(graph)}
    found: list[Turn] = []
    for turn in range(max(number.values()) + 1):
        chip = [n for n in graph.topological() if not is_host(n) and number[n.name] == turn]
        for name, nodes, colour in ((f"host{turn}", hosts.get(turn, []), HOST), (f"chip{turn}", chip, CHIP)):
            if nodes:
                found.append(Turn(name, nodes, colour, LEFT + len(found) * (WIDE + APART), LANES[colour]))
    return found


def lanes(row: list[Turn]) -> list[str]:
    """The host's lane and the chip's."""
    found = []
    for colour, name in ((HOST, "host"), (CHIP, "chip")):
        high = max(turn.high for turn in row if turn.colour == colour)
        top, wide = LANES[colour] - 8, WIDTH - 16
        found.append(
            f"<rect x='8' y='{top}' width='{wide}' height='{high + 16}' rx='8' fill='#fafafa' stroke='{GRID}'/>"
        )
        found.append(text(LEFT, LANES[colour] + high - 2, name, 13, colour, "font-style='italic'"))
    return found


def box(turn: Turn, begins: int) -> list[str]:
    """A turn with the nodes of it."""
    found = [
        f"<rect x='{turn.x}' y='{turn.top}' width='{WIDE}' height='{turn.high}' rx='5' fill='{FILLS[turn.colour]}' "
        f"stroke='{turn.colour}' stroke-width='1.5'/>",
        text(turn.x + 8, turn.top + 18, turn.name, 13, turn.colour, "font-weight='bold'"),
        text(turn.x + WIDE - 8, turn.top + 18, f"after step {begins}", 11, FAINT, "text-anchor='end'"),
    ]
    for i, node in enumerate(turn.nodes):
        y = turn.top + 36 + ROW * i
        found.append(text(turn.x + 8, y, node.name.replace("stage1.", "s1.").replace(".branch.", ".b."), 10.5))
        found.append(text(turn.x + WIDE - 8, y, node.kind, 10, FAINT, "text-anchor='end'"))
    return found


def crossings(program: hc.Program, row: list[Turn]) -> dict[tuple[int, int], str]:
    """By turn and turn, what goes from one to the other for a sample; spikes as the partition pass counted them."""
    turn_of = {node.name: i for i, turn in enumerate(row) for node in turn.nodes}
    found = {}
    for node in program.graph:
        for taker in program.graph.successors(node.name):
            here, there = turn_of.get(node.name, -1), turn_of.get(taker.name, -1)
            if -1 < here < there and row[here].colour == row[there].colour:
                found[here, there] = f"{node.type.size:,} values"
    (table,) = (t for stage in program.stages for t in stage.tables if t.title == "What crosses")
    for source, to, direction, what, count, *_ in table.rows:
        # In this network each turn is fed by the one before. A sum that crosses is no node after lowering.
        here = turn_of[source] if direction == "host to chip" else turn_of[to] - 1
        found[here, here + 1] = f"{count:,.0f} {what}"
    return found


def arrow(start: Turn, end: Turn, words: str) -> list[str]:
    """From a turn to another: along the lane, or down to the chip and up again."""
    number, kind = words.split(" ")
    if start.colour == end.colour:  # values pass by a turn of the chip
        y = start.top + 24
        x1, x2 = start.x + WIDE, end.x
        return [
            line(x1, y, x2 - 2, y, start.colour, 1.5, "stroke-dasharray='5 4' marker-end='url(#tip)'"),
            text((x1 + x2) / 2, y - 7, words, 11.5, INK, "text-anchor='middle'"),
        ]
    if start.colour == HOST:
        x = start.x + WIDE * 0.75
        path = f"M{x} {start.top + start.high} V{end.top + end.high / 2} H{end.x - 2}"
    else:
        x = end.x + WIDE * 0.25
        path = f"M{start.x + WIDE} {start.top + start.high / 2} H{x} V{end.top + end.high + 2}"
    return [
        f"<path d='{path}' fill='none' stroke='{INK}' stroke-width='1.5' marker-end='url(#tip)'/>",
        text(x + 7, LANES[CHIP] - 26, number, 12, INK, "font-weight='bold'"),
        text(x + 7, LANES[CHIP] - 12, kind, 11.5, FAINT),
    ]


def timeline(program: hc.Program, row: list[Turn], top: float) -> list[str]:
    """When each population works on which sample, and when the host computes."""
    graph, steps = program.graph, program.timesteps
    ready = depths(graph, stages(graph), steps)
    per = (WIDTH - 200 - 24) / END
    at = [200 + step * per for step in range(END + 1)]
    rows: list[tuple[str, str, int]] = []
    for turn in row:
        if turn.colour == HOST:
            rows.append((turn.name, HOST, ready[int(turn.name[4:])]))
        else:
            populations = [n for n in turn.nodes if n.is_population and n.schedule]
            rows += [(n.name, CHIP, n.schedule.depth) for n in sorted(populations, key=lambda n: n.schedule.depth)]
    high, bottom = 22, top + 22 * len(rows)
    found = []
    for step in range(0, END + 1, steps // 2):
        found.append(line(at[step], top, at[step], bottom, GRID, 1))
        found.append(text(at[step], bottom + 16, str(step), 11, FAINT, "text-anchor='middle'"))
    for i, (name, colour, begins) in enumerate(rows):
        y = top + i * high
        found.append(text(190, y + 15, name, 12, colour, "text-anchor='end'"))
        for k, shade in enumerate(SAMPLES):
            start = begins + k * steps
            if start > END:
                continue
            if colour == HOST:
                x = at[start]
                found.append(f"<path d='M{x:.1f} {y + 3} l7 8 l-7 8 l-7 -8 z' fill='{shade}'/>")
            else:
                wide = (min(start + steps, END) - start) * per - 1.5
                found.append(f"<rect x='{at[start]:.1f}' y='{y + 3}' width='{wide:.1f}' height='16' fill='{shade}'/>")
                if wide > 60:
                    found.append(text(at[start] + 6, y + 15, f"sample {k}", 11, "#ffffff"))
    words = "step; diamonds: the host computes, at once, for the sample of that colour; bars: a window of T steps"
    found.append(text(200, bottom + 34, words, 12, FAINT))
    return found


def draw() -> str:
    """The whole picture."""
    program = compiled()
    row = turns(program.graph)
    begins = {cells[0]: cells[-1] for cells in table_of_turns(program.graph).rows}
    parts = [
        f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {WIDTH} {HEIGHT}' {FONT}>",
        "<defs><marker id='tip' viewBox='0 0 8 8' refX='7' refY='4' markerWidth='6' markerHeight='6' orient='auto'>"
        f"<path d='M0 0 L8 4 L0 8 z' fill='{INK}'/></marker></defs>",
        f"<rect width='{WIDTH}' height='{HEIGHT}' fill='#ffffff'/>",
        text(LEFT, 32, "Host and chip in turns: digits_has.pt, two HAS blocks", 17, more="font-weight='bold'"),
        text(
            LEFT,
            54,
            f"T = {program.timesteps}. On the arrows: what crosses per sample, mean over the calibration data. "
            "s1: stage1, b: branch.",
            12,
            FAINT,
        ),
    ]
    parts += lanes(row)
    for turn in row:
        parts += box(turn, begins[turn.name])
    for (here, there), words in crossings(program, row).items():
        parts += arrow(row[here], row[there], words)
    top = 522
    parts.append(text(LEFT, top - 18, "Three samples, pipelined", 17, more="font-weight='bold'"))
    parts += timeline(program, row, top)
    return "\n".join([*parts, "</svg>", ""])


if __name__ == "__main__":
    OUT.write_text(draw(), "utf-8")
