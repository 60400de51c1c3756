"""Stages of the host between turns of the chip, on onnxruntime: the numbers that a bundle gives on Lava."""

from __future__ import annotations

import numpy as np

from hsnn_compiler.ir.graph import Graph
from hsnn_compiler.reference.host_stage import Arrays, Runner


def onnx_runner(part: Graph) -> Runner:
    """A stage on onnxruntime, one sample at a time: how many are run together changes the last bits of sums.

    Args:
        part: see `hsnn_compiler.ir.stages.stage_graph`.
    """
    from hsnn_compiler.backends.host.onnx_export import to_onnx
    from hsnn_compiler.backends.host.session import HostSession

    session = HostSession(to_onnx(part, part.name))

    def run(arrays: Arrays) -> Arrays:
        samples = len(next(iter(arrays.values())))
        each = [session.run({name: array[k : k + 1] for name, array in arrays.items()}) for k in range(samples)]
        return {name: np.concatenate([found[name] for found in each]) for name in each[0]}

    return run
