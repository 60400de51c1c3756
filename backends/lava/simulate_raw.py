"""Run a raw graph on Lava's CPU backend and bring the result back in the graph's terms."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Collection
from pathlib import Path

import numpy as np

from hsnn_compiler.backends.lava import simulate
from hsnn_compiler.backends.lava.check_raw import check_raw
from hsnn_compiler.backends.lava.emit_raw import emit_raw
from hsnn_compiler.backends.lava.layout import from_lava, to_lava
from hsnn_compiler.backends.lava.retiming import Retimed, reaching_populations, retime
from hsnn_compiler.diagnostics import HsnnError, refuse
from hsnn_compiler.ir.graph import Graph, Node
from hsnn_compiler.reference.batches import Inputs, batches
from hsnn_compiler.reference.loihi_ends import complete
from hsnn_compiler.reference.loihi_executor import LoihiExecutor
from hsnn_compiler.reference.loihi_parameters import SIGMA_DELTA_OPS, is_population
from hsnn_compiler.reference.result import Record, Result, join

SIGMA_DELTA_VARIABLES = {"u": "sigma", "v": "act"}


def run_raw(
    graph: Graph,
    inputs: Inputs,
    record: Collection[Record] = (),
    *,
    reset_interval: int | None = None,
    sparse: bool | None = None,
    deadline_s: float,
    on_progress: Callable[[int, int], None] | None = None,
) -> Result:
    """Run samples one after the other on Lava, each in a network and a child process of its own.

    Args:
        graph: a raw integer graph; refused (E0105, E0450) where Lava has no process for a node.
        inputs: spikes or payloads [samples, time, ...], as for `LoihiExecutor.run`.
        record: signals (population, ``s``, ``u`` or ``v``) to keep; [samples, time, ...] in the graph's layout.
        reset_interval: see `LoihiExecutor.run`.
        sparse: whether to use Lava's Sparse for its Dense; by default where that is faster.
        deadline_s: seconds after which the run of all samples is ended.
        on_progress: called with (steps done, steps of all samples).

    Returns:
        Outputs and traces as `LoihiExecutor.run` gives them; Lava does not count saturation.
    """
    executor = LoihiExecutor(graph)
    populations = [node for node in graph if is_population(node)]
    known = {(node.name, variable) for node in populations for variable in "suv"}
    if not executor.is_raw or not populations:
        raise refuse("E0450", "not a raw graph with populations", supported="graphs whose inputs have a time axis")
    if set(record) - known:
        unknown = ", ".join(f"{variable} of {name}" for name, variable in sorted(set(record) - known))
        raise refuse("E0331", f"Lava does not record {unknown}", supported="s, u and v of populations")
    findings = check_raw(graph, reset_interval)
    if findings:
        raise HsnnError(findings)
    needed, retimed = reaching_populations(graph), retime(graph)
    wanted = _wanted(graph, {*record, *((node.name, _put_out(node)) for node in populations)})
    deadline = time.monotonic() + deadline_s
    results = []
    with tempfile.TemporaryDirectory(prefix="hsnn-lava-raw-") as folder:
        emit_raw(
            graph,
            Path(folder),
            f"{graph.name}: written by hsnn-compiler.",
            reset_interval=reset_interval,
            sparse=sparse,
        )
        for sample, done, total in batches(graph, inputs, 1):
            recorded = simulate.run_network(
                Path(folder),
                {n: to_lava(_longer(a[0], retimed.longest), graph[n].shape) for n, a in sample.items() if n in needed},
                wanted,
                deadline_s=max(deadline - time.monotonic(), 0.0),
                on_progress=_progress_of(on_progress, done - 1, total),
            )
            results.append(_result(executor, sample, _as_the_data(recorded, retimed), record))
    return join(results)


def _longer(data: np.ndarray, more: int) -> np.ndarray:
    """Data [time, ...] with steps in which nothing is sent behind them, int32."""
    return np.pad(np.asarray(data, np.int32), [(0, more), *[(0, 0)] * (data.ndim - 1)])


def _as_the_data(recorded: dict[Record, np.ndarray], retimed: Retimed) -> dict[Record, np.ndarray]:
    """Recordings [time, ...] with the steps of the data: each population's from its lag on."""
    return {
        (name, variable): signal[retimed.lags[name] : len(signal) - retimed.longest + retimed.lags[name]]
        for (name, variable), signal in recorded.items()
    }


def _wanted(graph: Graph, signals: Collection[Record]) -> dict[str, list[str]]:
    """Signals in Lava's own names, by population."""
    wanted: dict[str, list[str]] = {}
    for name, variable in sorted(signals):
        wanted.setdefault(name, []).append(_variable(graph, name, variable))
    return wanted


def _variable(graph: Graph, name: str, variable: str) -> str:
    return SIGMA_DELTA_VARIABLES.get(variable, variable) if graph[name].kind in SIGMA_DELTA_OPS else variable


def _put_out(node: Node) -> str:
    """Which signal is a population's output."""
    return "v" if node.is_neuron and not node.is_spiking else "s"


def _progress_of(
    report: Callable[[int, int], None] | None, before: int, total: int
) -> Callable[[int, int], None] | None:
    return report and (lambda steps, of: report(before * of + steps, total * of))


def _result(
    executor: LoihiExecutor,
    sample: dict[str, np.ndarray],
    recorded: dict[Record, np.ndarray],
    record: Collection[Record],
) -> Result:
    graph = executor.graph
    signals = {
        (name, variable): from_lava(np.asarray(recorded[name, _variable(graph, name, variable)]), graph[name].shape)[
            None
        ]
        for name in {name for name, _ in recorded}
        for variable in "suv"
        if (name, _variable(graph, name, variable)) in recorded
    }
    put_out = {node.name: _put_out(node) for node in graph if is_population(node)}
    result = complete(executor, sample, {name: signals[name, variable] for name, variable in put_out.items()})
    result.trace = {key: signals[key] for key in record}
    result.spikes = {
        name: int(np.count_nonzero(signals[name, "s"])) for name, variable in put_out.items() if variable == "s"
    }
    return result
