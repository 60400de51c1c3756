"""The process a board is driven from: ``network.py`` of one turn, one sample after the other.

Runs in the folder of the job (`board_run`), which holds what a bundle has: ``network.py`` and its arrays.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import numpy as np

from hsnn_compiler.backends.spinnaker.child_process import report_errors

JOB, GIVEN, RECORDED, PROGRESS = "job.json", "given.npz", "recorded.npz", "progress.json"


def main() -> None:
    """Run every sample with the simulator that ``job.json`` names."""
    job = json.loads(Path(JOB).read_text("utf-8"))
    sys.path.insert(0, str(Path.cwd()))
    network = importlib.import_module("network")
    build, steps, read = network.TURNS[0]
    with np.load(GIVEN) as file:
        given = dict(file)
    kept: dict[str, list[np.ndarray]] = {name: [] for name in read}
    for sample in range(job["samples"]):
        net = network.Builder(job["simulator"], {name: array[sample] for name, array in given.items()})
        build(net)
        for name, array in net.run(steps, read).items():
            kept[name].append(array)
        Path(PROGRESS).write_text(json.dumps([sample + 1, job["samples"]]))
    np.savez(RECORDED, **{name: np.stack(parts) for name, parts in kept.items()})  # type: ignore[arg-type]


if __name__ == "__main__":
    report_errors(main)
