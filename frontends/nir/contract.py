"""What the user says about the meaning of a graph: the parts of the contract that NIR leaves open."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from hsnn_compiler.diagnostics import Finding, HsnnError
from hsnn_compiler.frontends.nir.late import RULES
from hsnn_compiler.frontends.nir.presets import PRESETS
from hsnn_compiler.ir.dynamics import CHOICES

UNITS = {"s": 1e-4, "ms": 1.0, "step": 1.0}
"""Units of time constants, and the dt used where nothing is said (1e-4 s: the NIR paper's)."""
_NUMBERS = ("dt", "v_init", "decay", "current_decay", "gain", "leak", "current_gain", "current_leak", "u_init", "v_min")
_COUNTS = ("max_spikes", "refractory")
_FLAGS = ("current_first", "reset_current", "reset_to_current")
_GRAPH_COUNTS = ("input_delay", "synapse_delay", "population_delay")
KEYS = ("preset", "unit", *_NUMBERS, *CHOICES, *_COUNTS, *_FLAGS, *_GRAPH_COUNTS, "late", "bias_at_start")


@dataclass(frozen=True)
class Contract:
    """What the user says about the meaning of a graph; None is: choose, and say what was chosen.

    Attributes:
        preset: name of a platform (`PRESETS`), whose meaning is taken where nothing else is said.
        dt: length of a step, in the unit of the file's time constants.
        unit: ``"s"``, ``"ms"`` or ``"step"``, the unit of the file's time constants.
        neurons: fields of `Dynamics` for all neurons.
        input_delay, synapse_delay, population_delay: steps on the edges out of inputs, into weight
            layers, and forward into neurons.
        late: which edges are late by a step, see `hsnn_compiler.frontends.nir.late`.
        bias_at_start: whether recurrent weights deliver their bias in the first step.
    """

    preset: str | None = None
    dt: float | None = None
    unit: str | None = None
    neurons: dict[str, Any] = field(default_factory=dict)
    input_delay: int | None = None
    synapse_delay: int | None = None
    population_delay: int | None = None
    late: str | None = None
    bias_at_start: bool | None = None

    @classmethod
    def parse(cls, text: str, dt: float | None = None) -> Contract:
        """Read ``preset=norse`` or ``reset=subtract,input_delay=1``; all that is not known is refused (E0223)."""
        contract = cls(dt=dt)
        wrong = []
        for item in filter(None, (part.strip() for part in text.split(","))):
            key, _, value = item.partition("=")
            try:
                contract = contract._with(key.strip(), value.strip())
            except ValueError as error:
                wrong.append(Finding("E0223", f"{item!r}: {error}", supported=f"{', '.join(KEYS)}"))
        if wrong:
            raise HsnnError(wrong)
        return contract

    def _with(self, key: str, value: str) -> Contract:
        if key == "preset":
            return replace(self, preset=_one_of(value, PRESETS))
        if key == "unit":
            return replace(self, unit=_one_of(value, UNITS))
        if key == "late":
            return replace(self, late=_one_of(value, RULES))
        if key == "bias_at_start":
            return replace(self, bias_at_start=_flag(value))
        if key == "dt":
            return replace(self, dt=float(value))
        if key in _GRAPH_COUNTS:
            count: dict[str, Any] = {key: _count(value)}
            return replace(self, **count)
        if key in CHOICES:
            return replace(self, neurons={**self.neurons, key: _one_of(value, CHOICES[key])})
        if key in _NUMBERS:
            return replace(self, neurons={**self.neurons, key: float(value)})
        if key in _COUNTS:
            return replace(self, neurons={**self.neurons, key: _count(value)})
        if key in _FLAGS:
            return replace(self, neurons={**self.neurons, key: _flag(value)})
        raise ValueError("no such part of the contract")


def _one_of(value: str, known: Any) -> str:
    if value not in known:
        raise ValueError(f"use one of {', '.join(known)}")
    return value


def _flag(value: str) -> bool:
    if value.lower() not in ("yes", "no", "true", "false"):
        raise ValueError("use yes or no")
    return value.lower() in ("yes", "true")


def _count(value: str) -> int:
    number = int(value)
    if number < 0:
        raise ValueError("use 0 or more")
    return number
