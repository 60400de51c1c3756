"""A network as a graph file holds it, ready to run on a time axis of its own: no target, no samples cut to windows."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from hsnn_compiler.diagnostics import Finding, refuse
from hsnn_compiler.ir.graph import Graph
from hsnn_compiler.ir.timing import layers

if TYPE_CHECKING:
    from hsnn_compiler.frontends.nir import Contract
    from hsnn_compiler.reference.batches import Inputs
    from hsnn_compiler.reference.result import Record, Result

BACKENDS = ("float", "reference", "lava")
SUFFIXES = (".nir", ".h5", ".hdf5", ".net")


@dataclass
class Network:
    """A raw graph: its inputs have a time axis.

    Attributes:
        graph: every neuron with its dynamics, every edge with its delay.
        findings: what was assumed or chosen on the way here.
        has_integers: whether it holds a chip's integers (a ``.net`` file does), which the reference and
            Lava run; else they run what `quantised` makes of it.
        to_integers: makes the integers of its inputs: of a ``.net`` file with an input layer, from values in
            [0, 1]; of a quantised network, from what the real one takes.
        real: of a quantised network: the one in real numbers that it was made from.
    """

    graph: Graph
    findings: tuple[Finding, ...] = ()
    has_integers: bool = False
    to_integers: Callable[[Inputs], Inputs] | None = None
    real: Network | None = None

    def __repr__(self) -> str:
        return f"<Network {self.graph.name}: {len(self.graph)} nodes, {'integers' if self.has_integers else 'real'}>"

    def simulate(
        self,
        x: Inputs,
        backend: str | None = None,
        record: Collection[Record] = (),
        *,
        reset_interval: int | None = None,
        batch_size: int = 128,
        deadline_s: float = 600.0,
        progress: Callable[[int, int], None] | None = None,
    ) -> Result:
        """Run samples.

        Args:
            x: inputs [samples, time, ...], or one such array per input node.
            backend: ``float``, ``reference`` (Loihi's integers) or ``lava`` (Lava's CPU backend, one sample
                after the other); by default the reference where there are integers, else float. A network
                in real numbers is `quantised` for `x` first; of a quantised one, float runs the real one.
            record: signals to keep, (node, ``s`` | ``u`` | ``v``).
            reset_interval: the population of layer L returns to its start state as step L + k * interval
                begins, counted from 0; never by default.
            batch_size: samples at a time; bounds the memory.
            deadline_s: Lava only, seconds after which the run is ended.
            progress: called as (done, total).

        Raises:
            HsnnError: E0202 unknown backend, E0204 nothing to record under a name, E0224 a reset interval that
                integers give another meaning, E0330 data that does not fit, and what the backend refuses.
        """
        backend = backend or ("reference" if self.has_integers else "float")
        if backend not in BACKENDS:
            raise refuse("E0202", f"no backend named {backend!r}", supported=", ".join(BACKENDS))
        known = dict.fromkeys(recordable(self.graph))
        for name, variable in record:
            if (name, variable) not in known:
                names = ", ".join(dict.fromkeys(node for node, _ in known))
                raise refuse("E0204", f"nothing to record under {name}:{variable}", supported=f"s, u or v of {names}")
        other = self.real if backend == "float" else None if self.has_integers else self.quantised(x)
        if other is not None:
            return other.simulate(
                x,
                backend,
                record,
                reset_interval=reset_interval,
                batch_size=batch_size,
                deadline_s=deadline_s,
                progress=progress,
            )
        if reset_interval is not None and self.real is not None:
            _check_layers(self.real.graph, self.graph)
        x = self.to_integers(x) if self.to_integers else x
        if backend == "float":
            from hsnn_compiler.reference.float_executor import FloatExecutor

            executor = FloatExecutor(self.graph, method="auto")
            return executor.run(x, record, batch_size, progress, reset_interval)
        if backend == "reference":
            from hsnn_compiler.reference.loihi_executor import LoihiExecutor

            return LoihiExecutor(self.graph).run(x, record, batch_size, progress, reset_interval=reset_interval)
        from hsnn_compiler.backends.lava.simulate_raw import run_raw

        return run_raw(
            self.graph, x, record, reset_interval=reset_interval, deadline_s=deadline_s, on_progress=progress
        )

    def quantised(self, x: Inputs) -> Network:
        """This network in Loihi's integers, scaled for data like these; itself where it holds integers already.

        Args:
            x: inputs [samples, time, ...], or one such array per input node.

        Returns:
            a network that takes the same data; its populations and outputs have the same names. Its findings say
            what was rounded, and by how much.

        Raises:
            HsnnError: with all that the chip cannot do, see `hsnn_compiler.passes.raw.quantise_raw`.
        """
        if self.has_integers:
            return self
        from hsnn_compiler.passes.raw import quantise_raw

        made = quantise_raw(self.graph, x)
        return Network(made.graph, (*self.findings, *made.findings), True, made.payloads, self)


def recordable(graph: Graph) -> list[Record]:
    """Everything that can be recorded: the output of every node, and the states of populations."""
    return [(node.name, v) for node in graph for v in "s" + node.states]


def open_network(path: str | Path, contract: Contract | None = None) -> Network:
    """Open a ``.nir`` file (also one this compiler wrote) or a lava-dl ``.net`` file.

    Args:
        path: the file.
        contract: what NIR leaves open; a ``.net`` file says all of it, so there it is refused (E0225).
    """
    path = Path(path)
    if path.suffix == ".net":
        from hsnn_compiler.frontends.lava_dl import read_input_transform, read_net

        if contract is not None:
            raise refuse(
                "E0225",
                f"{path.name} holds Loihi's integers, which say all of what a step does",
                supported="--dt and --dynamics with .nir files",
            )
        graph, findings = read_net(path)
        transform = read_input_transform(path)
        return Network(graph, tuple(findings), True, _where_fractions(transform.apply) if transform else None)
    from hsnn_compiler.frontends.nir import read, settle

    graph, findings = read(path)
    graph, chosen = settle(graph, contract)
    integers = any(node.quant is not None for node in graph)
    return Network(graph, (*findings, *chosen), has_integers=integers)


def _check_layers(real: Graph, integers: Graph) -> None:
    """Refuse reset intervals (E0224) where a population has another layer in integers."""
    before, after = layers(real), layers(integers)
    moved = [node.name for node in real if node.is_neuron and before[node.name] != after[node.name]]
    if moved:
        raise refuse(
            "E0224",
            f"layer {before[moved[0]]} of the real network is layer {after[moved[0]]} in integers",
            node=moved[0],
            supported="--reset-interval with --backend float, or samples of their own, each of which starts afresh",
        )


def _where_fractions(apply: Callable[[np.ndarray], np.ndarray]) -> Callable[[Inputs], Inputs]:
    """An input layer that acts on values in [0, 1] which are not all integers; all else are integers already."""

    def make(x: Inputs) -> Inputs:
        if isinstance(x, Mapping):
            return {name: make(array) for name, array in x.items()}  # type: ignore[misc]
        within = x.size and x.min() >= 0 and x.max() <= 1 and bool((x % 1).any())
        return apply(x) if within else x

    return make


def as_samples(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """[time, ...] as one sample [1, time, ...]; [samples, time, ...] as it is."""
    return array[None] if array.ndim == len(shape) + 1 else array
