"""The process NEST runs in: one turn of a netlist, many samples side by side and one after the other.

Neurons are PyNN's ``IF_curr_delta``, as in ``network.py``; synapses and spike sources are NEST's own, because PyNN
connects one neuron at a time. Small networks are built several times, without synapses between the copies. Between
two rounds no neuron can fire until all spikes under way have arrived; then potentials are set to their start.

Runs in the folder of the job (`nest_run`), which holds the netlist, ``job.json`` and ``given.npz``; leaves
``recorded.npz`` there.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from hsnn_compiler.backends.spinnaker.cells import cells
from hsnn_compiler.backends.spinnaker.child_process import report_errors
from hsnn_compiler.backends.spinnaker.execute import Given, bias_of
from hsnn_compiler.backends.spinnaker.netlist import Netlist, Population, Projection, Turn

JOB, GIVEN, RECORDED, PROGRESS = "job.json", "given.npz", "recorded.npz", "progress.json"
MOST_SYNAPSES = 200_000
"""Of all copies of a network together: making synapses takes longer than a few more rounds."""
_SYNAPSES_PER_NEURON = 10  # a neuron takes about as long to make as this many
_SILENCE = 1e9  # mV, a threshold that nothing reaches


def main() -> None:
    """Run the turn that ``job.json`` names."""
    import nest
    import pyNN.nest as sim

    # PyNN's cell forgets where NEST keeps the potential, and with it the initial one (PyNN 844).
    sim.IF_curr_delta.variable_map = {"v": "V_m"}
    sim.IF_curr_delta.scale_factors = {"v": 1}
    job = json.loads(Path(JOB).read_text("utf-8"))
    netlist = Netlist.load(Path.cwd())
    turn = netlist.turns[job["turn"]]
    with np.load(GIVEN) as file:
        arrays = dict(file)
    given = Given(
        {name: arrays[f"spikes/{name}"] for name in job["spikes"]},
        {name: arrays[f"currents/{name}"] for name in job["currents"]},
    )
    samples = job["samples"]
    copies = min(side_by_side(turn, job["most_synapses"]), samples)
    network = _Copies(sim, nest, turn, netlist.timesteps, given, copies)
    network.record([(name, variable) for name, variable in job["record"]])
    kept: dict[str, list[np.ndarray]] = {}
    for number, start in enumerate(range(0, samples, copies)):
        stop = min(start + copies, samples)
        for key, array in network.run(number).items():
            kept.setdefault(key, []).append(array[: stop - start])
        Path(PROGRESS).write_text(json.dumps([stop, samples]))
    sim.end()
    np.savez(RECORDED, **{key: np.concatenate(parts) for key, parts in kept.items()})  # type: ignore[arg-type]


def side_by_side(turn: Turn, most_synapses: int) -> int:
    """How many copies of a network there may be."""
    synapses = sum(len(projection.pre) for projection in turn.projections.values())
    neurons = sum(population.size for population in turn.populations.values())
    return max(1, most_synapses // max(1, synapses, _SYNAPSES_PER_NEURON * neurons))


class _Copies:
    """A turn in NEST, several times.

    Args:
        sim, nest: the modules ``pyNN.nest`` and ``nest``.
        turn, timesteps, given: as a `TurnRunner` has them.
        copies: number of samples that run side by side.
    """

    def __init__(self, sim: Any, nest: Any, turn: Turn, timesteps: int, given: Given, copies: int) -> None:
        self.sim, self.nest, self.turn, self.timesteps = sim, nest, turn, timesteps
        self.given, self.copies = given, copies
        longest = max((projection.delay for projection in turn.projections.values()), default=1)
        # spikes of the last step, and what is recorded of it, arrive before the next round
        self.period = turn.steps + longest
        sim.setup(timestep=1.0, min_delay=1.0, max_delay=float(max(longest, 2)), spike_precision="on_grid")
        self.recorders: dict[tuple[str, str], Any] = {}
        self.first: dict[str, int] = {}  # NEST's number of the first neuron
        self.nodes: dict[str, Any] = {}
        for population in turn.populations.values():
            nodes = self._neurons(population) if population.is_neural else self._sources(population)
            self.nodes[population.name], self.first[population.name] = nodes, int(nodes[0].global_id)
        for projection in turn.projections.values():
            self._connect(projection)

    def _neurons(self, population: Population) -> Any:
        cell = cells(population)
        found = self.sim.Population(
            population.size * self.copies,
            self.sim.IF_curr_delta(
                tau_m=np.tile(cell.tau_m, self.copies),
                cm=np.tile(cell.cm, self.copies),
                i_offset=np.tile(cell.i_offset, self.copies),
                v_thresh=np.tile(cell.v_thresh, self.copies),
                v_rest=0.0,
                v_reset=0.0,
                tau_refrac=0.0,
            ),
        )
        assert population.v_init is not None
        found.initialize(v=np.tile(population.v_init, self.copies))
        return found.node_collection

    def _sources(self, population: Population) -> Any:
        """Generators of spikes, for all rounds; the first step of a window is that of the population's depth."""
        rounds = -(-self.given.samples // self.copies)
        shape = (rounds * self.copies, self.timesteps, population.size)
        spikes = np.zeros(shape, bool)
        if population.kind == "source":
            array = self.given.spikes[population.name]
            spikes[: len(array)] = array.reshape(len(array), *shape[1:]) != 0
        else:
            spikes[:, : self.timesteps if population.kind == "clock" else 1] = True
        in_rounds = spikes.reshape(rounds, self.copies, *shape[1:])
        copy, neuron, number, step = np.nonzero(in_rounds.transpose(1, 3, 0, 2))
        times = number * self.period + step + (population.depth + 1.0)
        every = population.size * self.copies
        ends = np.searchsorted(copy * population.size + neuron, np.arange(1, every))
        found = self.nest.Create("spike_generator", every)
        found.set([{"spike_times": part} for part in np.split(times, ends)])
        return found

    def _connect(self, projection: Projection) -> None:
        count = len(projection.pre)
        if not count:
            return
        turn, copy = self.turn, np.repeat(np.arange(self.copies), count)
        ends = []
        for name, indices in (
            (projection.pre_population, projection.pre),
            (projection.post_population, projection.post),
        ):
            ends.append(self.first[name] + np.tile(indices, self.copies) + copy * turn.populations[name].size)
        weights = np.tile(projection.weight, self.copies)
        self.nest.Connect(
            *ends, "one_to_one", {"weight": weights, "delay": np.full(len(weights), float(projection.delay))}
        )

    def record(self, signals: list[tuple[str, str]]) -> None:
        """Record ``s`` or ``v`` of populations."""
        for name, variable in signals:
            if variable == "s":
                recorder = self.nest.Create("spike_recorder")
                self.nest.Connect(self.nodes[name], recorder)
            else:
                recorder = self.nest.Create("multimeter", params={"record_from": ["V_m"], "interval": 1.0})
                self.nest.Connect(recorder, self.nodes[name])
            self.recorders[name, variable] = recorder

    def run(self, number: int) -> dict[str, np.ndarray]:
        """One round; recorded windows, ``NAME:s`` or ``NAME:v``, [copies, T, size]."""
        neural = [part for part in self.turn.populations.values() if part.is_neural]
        for part in neural:
            self._begin(part, number)
        self.nest.Simulate(float(self.turn.steps))
        for part in neural:
            self.nodes[part.name].set({"V_th": _SILENCE})
        self.nest.Simulate(float(self.period - self.turn.steps))
        return {f"{name}:{variable}": self._window(name, variable, number) for name, variable in self.recorders}

    def _begin(self, population: Population, number: int) -> None:
        """Potentials, thresholds and what is presented, as a round begins; the first begins as it was built."""
        values = {}
        if number:
            assert population.v_init is not None
            values = {"V_m": population.v_init, "V_th": cells(population).v_thresh}
        values = {name: np.tile(array, self.copies) for name, array in values.items()}
        if population.presented:
            part = self.given.part(number * self.copies, (number + 1) * self.copies)
            bias = np.zeros((self.copies, population.size))
            bias[: part.samples] = bias_of(population, part)
            values["I_e"] = bias.reshape(-1) * 1000.0  # pA, as PyNN has it from nA
        if values:
            self.nodes[population.name].set({name: array.tolist() for name, array in values.items()})

    def _window(self, name: str, variable: str, number: int) -> np.ndarray:
        population, recorder = self.turn.populations[name], self.recorders[name, variable]
        events = recorder.get("events")
        recorder.set({"n_events": 0})
        step = np.rint(events["times"]).astype(np.int64) - 1 - population.depth - number * self.period
        inside = (step >= 0) & (step < self.timesteps)
        copy, neuron = np.divmod(np.asarray(events["senders"], np.int64)[inside] - self.first[name], population.size)
        found = np.zeros((self.copies, self.timesteps, population.size), np.uint8 if variable == "s" else np.float64)
        found[copy, step[inside], neuron] = 1 if variable == "s" else events["V_m"][inside]
        return found


if __name__ == "__main__":
    report_errors(main)
