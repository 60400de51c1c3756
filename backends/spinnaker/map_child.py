"""The process sPyNNaker maps in: runs one turn of an emitted ``network.py`` on a virtual board, and says what it did.

Runs in the folder of the job (`mapping.py`), which holds what a bundle holds of the network, ``job.json`` and
``spynnaker.cfg``; leaves ``mapped.json`` there, and the SDRAM images in the reports of sPyNNaker.
"""

from __future__ import annotations

import importlib
import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np

from hsnn_compiler.backends.spinnaker.child_process import report_errors

JOB, MAPPED, REPORTS = "job.json", "mapped.json", "reports"
_SPIKE = "SPIKE"  # the partition of edges that spikes take


def main() -> None:
    """Map the turn that ``job.json`` names."""
    job = json.loads(Path(JOB).read_text("utf-8"))
    sys.path.insert(0, str(Path.cwd()))
    network = importlib.import_module("network")
    build, steps, read = network.TURNS[job["turn"]]
    given = {name: _spread(network.TIMESTEPS, size) for name, size in job["sources"].items()}
    net = network.Builder("spinnaker", given | {name: np.zeros(size) for name, size in job["presented"].items()})
    build(net)
    names = {population._vertex.label: name for name, population in net.populations.items()}
    end = net.sim.end

    def keep_and_end() -> None:
        Path(MAPPED).write_text(json.dumps({**observe(), "names": names}), encoding="utf-8")
        end()

    net.sim.end = keep_and_end
    net._read = lambda *_: None  # a virtual board has nothing to read
    net.run(steps, read)


def _spread(timesteps: int, size: int) -> np.ndarray:
    """One spike of every neuron, [timesteps, size]: a source without any is an error in sPyNNaker."""
    return np.asarray(np.arange(timesteps)[:, None] == np.arange(size) % timesteps, np.uint8)


def observe() -> dict[str, Any]:
    """What sPyNNaker did: cores, keys, routing entries, machine, and binaries it would have to load."""
    from importlib.metadata import version

    from spinn_front_end_common.abstract_models import AbstractHasAssociatedBinary
    from spynnaker.pyNN.data import SpynnakerDataView as View
    from spynnaker.pyNN.models.utility_models.delays import DelayExtensionVertex

    cores = []
    for placement in View.iterate_placemements():
        vertex = placement.vertex
        binary = vertex.get_binary_file_name() if isinstance(vertex, AbstractHasAssociatedBinary) else ""
        application = vertex.app_vertex
        sdram = vertex.sdram_required
        cores.append(
            {
                "x": placement.x,
                "y": placement.y,
                "p": placement.p,
                "vertex": vertex.label,
                "application": "" if application is None else application.label,
                "first": 0 if application is None else vertex.vertex_slice.lo_atom,
                "neurons": 0 if application is None else vertex.vertex_slice.n_atoms,
                "sdram_fixed": int(sdram.fixed),
                "sdram_per_step": float(sdram.per_timestep),
                "binary": binary,
                "binary_exists": not binary or _exists(View, binary),
            }
        )
    keys = []
    infos = View.get_routing_infos()
    for vertex in View.iterate_vertices():
        delayed = isinstance(vertex, DelayExtensionVertex)
        if _SPIKE in infos.get_partitions_from(vertex):
            info = infos.get_info_from(vertex, _SPIKE)
            keys.append(
                {
                    "key": int(info.key),
                    "source": vertex.source_vertex.label if delayed else vertex.label,
                    "stages": vertex.n_delay_stages if delayed else 0,
                    "delay_per_stage": vertex.delay_per_stage if delayed else 0,
                }
            )
    machine = View.get_machine()
    return {
        "spynnaker": version("sPyNNaker"),
        "planned_steps": View.get_plan_n_timestep(),
        "cores": cores,
        "keys": keys,
        "chips": machine.n_chips,
        "boards": len(machine.ethernet_connected_chips),
        "uncompressed": {f"{t.x},{t.y}": t.number_of_entries for t in View.get_uncompressed()},
        "compressed": _compressed(),
        "folder": View.get_run_dir_path(),
        "database": View.get_ds_database_path(),
    }


def _exists(view: Any, binary: str) -> bool:
    try:
        return Path(view.get_executable_path(binary)).exists()
    except KeyError:
        return False


def _compressed() -> dict[str, int]:
    """Entries of the routing table of every chip as they would be loaded, from sPyNNaker's report."""
    found: dict[str, int] = {}
    for path in Path(REPORTS).rglob("compressed_routing_summary.rpt"):
        for x, y, entries in re.findall(r"Chip (\d+):(\d+) has (\d+) entries", path.read_text("utf-8")):
            found[f"{x},{y}"] = int(entries)
    return found


if __name__ == "__main__":
    report_errors(main)
