"""Calls of every function that a graph may call, with arguments that it takes: `CALLS`, read from calls.txt."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

import numpy as np

from hsnn_compiler.ir.host_call import FUNCTIONS
from hsnn_compiler.reference.host_calls import TABLE

_TEXT = (Path(__file__).parent / "calls.txt").read_text("utf-8").partition("\n\n")[2]


class Call(NamedTuple):
    """A call: its function and arguments, shapes of its ports, the range of their numbers, and the constants."""

    function: str
    arguments: str
    shapes: tuple[tuple[int, ...], ...]
    range: str
    constants: dict[str, np.ndarray]


def _sizes(text: str) -> tuple[int, ...]:
    return tuple(int(n) for n in text.split(",") if n)


def _constants(text: str) -> tuple[str, dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    numbers: dict[str, str] = {}
    found: dict[str, np.ndarray] = {}

    def constant(match: re.Match[str]) -> str:
        kind, number, axis, shape = match.groups()
        name = numbers.setdefault(kind + number, f"c{len(numbers)}")
        high, _, rest = shape.rpartition(":")
        sizes = _sizes(rest)
        if kind == "c":
            found[name] = rng.normal(size=sizes).astype(np.float32)
        elif kind == "i":
            found[name] = rng.integers(0, int(high), sizes)
        else:
            found[name] = rng.random(sizes) < 0.6
            found[name][..., 0] = True
        return name + (axis or "")

    return re.sub(r"\b([cib])(\d)(@\d)?\[([\d:,]*)\]", constant, text), found


def _calls() -> list[Call]:
    found = []
    rows = re.findall(r"(?s)(\S.*?): (.*?)(?=\n\S|\Z)", _TEXT)
    for names, calls in rows:
        for name in names.split():
            short, _, everywhere = name.partition("/")
            full = sorted(f for f in TABLE if f == short or f.split(".")[1] == short)
            exact = [f for f in full if f == short]
            for function in exact or full:
                # A method that is a function too is the same operation: one call of it is enough.
                is_twin = function.replace("Tensor.", "torch.") in full and function.startswith("Tensor.")
                for call in re.split(r"\s;\s", calls)[: 1 if is_twin else None]:
                    arguments, shapes, *given = (part.strip() for part in call.split("|"))
                    arguments, constants = _constants(arguments)
                    sizes = tuple(_sizes(shape) for shape in shapes.split()) or ((),)
                    found.append(Call(function, arguments, sizes, (*given, everywhere)[0], constants))
    return [call for call in found if not (call.function == "F.unfold" and "x0, 1, 3, 2" in call.arguments)]


CALLS = _calls()
UNTRIED = sorted((set(TABLE) & FUNCTIONS) - {call.function for call in CALLS})
"""Functions that no call above tries."""


def numbers(call: Call, samples: int) -> list[np.ndarray]:
    """Random inputs for a call, one per port."""
    rng = np.random.default_rng(1)
    ranges = {
        "": lambda size: rng.normal(size=size),
        "u": lambda size: rng.uniform(0.1, 0.9, size),
        "p": lambda size: rng.uniform(1.1, 3, size),
        "i": lambda size: rng.integers(0, 3, size),
    }
    return [ranges[call.range]((samples, *shape)).astype(np.float32) for shape in call.shapes]
