"""A netlist: populations and lists of synapses, as PyNN builds them, one for each turn of the chip.

One step is one time step of the machine. Every synapse takes at least one, so a population at depth d works on the
first step of a sample in step d + 1 of the run, and on its last in step d + T:

    V[t] = beta V[t-1] + bias + sum over synapses of weight s_pre[t - delay]
    s[t] = V[t] >= threshold; V[t] = 0 where it fires

with V[0] = v_init. A source at depth d puts out the first step of what it is given in step d + 1, too, a clock
fires in every step d + 1, ..., d + T, and a start in step d + 1 alone. What a population does outside its window is of
no consequence: what it sends then arrives outside the windows of all others.

The test is V >= threshold in real numbers. Where a source model fires only above its threshold, `threshold` is the next
float64; in a fixed-point format the smallest number that is not below it is the same test: ceil(threshold 2^15) / 2^15.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hsnn_compiler.diagnostics import refuse

FORMAT = 1
NETLIST, ARRAYS = "netlist.json", "arrays.npz"
KINDS = ("source", "clock", "start", "neurons", "readout")
"""Those of `GENERATORS` have one neuron and fire at times that the netlist knows."""
GENERATORS = ("clock", "start")


@dataclass(frozen=True, eq=False)
class Population:
    """Neurons with the same rule, or spikes that come from outside.

    Attributes:
        name: of the node in the graph that it stands for.
        kind: ``source``, spikes given from outside; ``clock``, one neuron that fires in every step of its window;
            ``start``, one that fires in the first step of its window; ``neurons``; ``readout``, neurons that never
            fire and whose potential is read at the end of their window.
        shape: of the neurons; arrays below are [size], flattened in C order.
        depth: steps of the run before the first step of its window.
        beta: decay of the potential per step, 0 <= beta < 1, float64 [size]; None for sources, clocks and starts, as
            are the next three.
        threshold: float64 [size]; None for a readout as well.
        v_init: potential before the run, float64 [size].
        bias: added in every step of the run, float64 [size].
        presented: name of a value of the host, [samples, *shape], that is added to `bias`, or empty; only at depth 0.
        origin: where it came from in the user's model, for people.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    depth: int = 0
    beta: np.ndarray | None = None
    threshold: np.ndarray | None = None
    v_init: np.ndarray | None = None
    bias: np.ndarray | None = None
    presented: str = ""
    origin: str = ""

    @property
    def size(self) -> int:
        """Number of neurons."""
        return int(np.prod(self.shape))

    @property
    def is_neural(self) -> bool:
        """Whether it has a membrane potential."""
        return self.kind in ("neurons", "readout")


@dataclass(frozen=True, eq=False)
class Projection:
    """Synapses between two populations, as a list.

    Attributes:
        name: of the synapse op in the graph.
        pre_population, post_population: names.
        pre, post: indices of neurons, int32 [synapses].
        weight: float64 [synapses], of both signs, none of them 0; PyNN gets excitatory and inhibitory ones apart.
        delay: steps, 1 or more.
    """

    name: str
    pre_population: str
    post_population: str
    pre: np.ndarray
    post: np.ndarray
    weight: np.ndarray
    delay: int = 1


@dataclass(frozen=True, eq=False)
class Turn:
    """What the chip does in one go, between two stages of the host.

    Attributes:
        number: from 0.
        steps: how long a run takes, so that every population has had its window.
        populations, projections: by name, in the order of the graph.
    """

    number: int
    steps: int
    populations: dict[str, Population]
    projections: dict[str, Projection]

    def arriving(self, name: str) -> list[Projection]:
        """Projections that end at a population."""
        return [projection for projection in self.projections.values() if projection.post_population == name]


@dataclass(frozen=True, eq=False)
class Netlist:
    """A whole program.

    Attributes:
        name: of the model.
        timesteps: T, steps per sample.
        turns: in their order; what flows between them goes through the host.
        recorded: what the host reads: by population, ``spikes`` (all steps of its window) or ``potential`` (the last).
        stages: of the host, in their order: plain data, see `hsnn_compiler.backends.spinnaker.hosts`. Stage n runs
            before turn n, and the last ones behind the last turn.
        inputs: shapes of one sample, by input node; with the time axis where the input has one.
        outputs: by output node, the name of the value of the host that it is.
    """

    name: str
    timesteps: int
    turns: tuple[Turn, ...]
    recorded: Mapping[str, str] = field(default_factory=dict)
    stages: Sequence[Mapping[str, Any]] = ()
    inputs: Mapping[str, list[int]] = field(default_factory=dict)
    outputs: Mapping[str, str] = field(default_factory=dict)

    @property
    def populations(self) -> dict[str, Population]:
        """Of all turns; a source that feeds several of them counts once."""
        return {name: found for turn in self.turns for name, found in turn.populations.items()}

    def save(self, folder: Path) -> None:
        """Write ``netlist.json`` and ``arrays.npz``: the same bytes for the same netlist."""
        arrays: dict[str, np.ndarray] = {}
        turns = []
        for turn in self.turns:
            populations = [_plain(part, f"population/{part.name}", arrays) for part in turn.populations.values()]
            projections = [_plain(part, f"projection/{part.name}", arrays) for part in turn.projections.values()]
            turns.append(
                {
                    "number": turn.number,
                    "steps": turn.steps,
                    "populations": populations,
                    "projections": projections,
                }
            )
        text = {
            "format": FORMAT,
            "name": self.name,
            "timesteps": self.timesteps,
            "inputs": dict(self.inputs),
            "outputs": dict(self.outputs),
            "recorded": dict(self.recorded),
            "stages": [dict(stage) for stage in self.stages],
            "turns": turns,
        }
        (folder / NETLIST).write_text(json.dumps(text, indent=1) + "\n", encoding="utf-8")
        np.savez_compressed(folder / ARRAYS, **arrays)  # type: ignore[arg-type]

    @classmethod
    def load(cls, folder: Path) -> Netlist:
        """Read what `save` wrote. E0340 where it is no netlist, or of a version not known."""
        try:
            text = json.loads((folder / NETLIST).read_text("utf-8"))
            with np.load(folder / ARRAYS, allow_pickle=False) as file:
                arrays = dict(file)
        except (OSError, ValueError) as error:
            raise refuse("E0340", f"{folder.name} holds no netlist that can be read: {error}") from error
        if text.get("format") != FORMAT:
            raise refuse("E0340", f"a netlist of format {text.get('format')}", supported=f"format {FORMAT}")
        turns = tuple(
            Turn(
                number=plain["number"],
                steps=plain["steps"],
                populations={p["name"]: Population(**_filled(p, arrays)) for p in plain["populations"]},
                projections={p["name"]: Projection(**_filled(p, arrays)) for p in plain["projections"]},
            )
            for plain in text["turns"]
        )
        ends = text["stages"], text["inputs"], text["outputs"]
        return cls(text["name"], text["timesteps"], turns, text["recorded"], *ends)


def _plain(part: Population | Projection, prefix: str, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """Fields as plain data; arrays are put aside, and named."""
    found: dict[str, Any] = {}
    for name, value in vars(part).items():
        if isinstance(value, np.ndarray):
            arrays[f"{prefix}/{name}"] = value
            found[name] = {"array": f"{prefix}/{name}"}
        else:
            found[name] = list(value) if isinstance(value, tuple) else value
    return found


def _filled(plain: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    found = {k: arrays[v["array"]] if isinstance(v, dict) else v for k, v in plain.items()}
    if "shape" in found:
        found["shape"] = tuple(found["shape"])
    return found
