"""Read a lava-dl ``.net`` file into a raw graph."""

from __future__ import annotations

from pathlib import Path

import h5py

from hsnn_compiler.diagnostics import Finding, HsnnError, refuse
from hsnn_compiler.frontends.lava_dl.builder import Builder
from hsnn_compiler.frontends.lava_dl.fields import DAMAGED, Fields, MissingError, layer_groups, open_net
from hsnn_compiler.ir.graph import Graph
from hsnn_compiler.ir.infer import infer_types


def read_net(
    path: str | Path, *, input_shape: tuple[int, ...] | None = None, input_message_bits: int = 0
) -> tuple[Graph, list[Finding]]:
    """Read a network.

    The graph is a raw one: integers as they are in the file, one global time axis, and the step of every
    synapse (and SLAYER's axonal delays) on its edges. An input layer with a neuron becomes that population,
    driven by the integers of `InputTransform`; netx writes those into the neurons' bias instead, which is
    the same where iDecay is 4096. Layers of neurons are ``layer0``, ``layer1``, ... by their number in the
    file, their synapses ``layer1.weight``.

    Args:
        path: an HDF5 file that lava-dl's ``export_hdf5`` wrote.
        input_shape: [neurons] or [channels, height, width] of what feeds the first layer, where the file has
            no input layer that says it.
        input_message_bits: 0 where the network without an input neuron is fed with spikes, else the bits of
            the payloads.

    Returns:
        The graph, and findings about everything that was assumed or left out (W0250, I0250).

    Raises:
        HsnnError: E0250 not such a file, E0251 a layer or neuron that cannot be read, E0252 a field that is
            missing or does not fit; all of them at once.
    """
    path = Path(path)
    try:
        with open_net(path) as file:
            graph, findings = _read(file, path, input_shape, input_message_bits)
    except DAMAGED as error:
        raise refuse("E0250", f"{path} cannot be read: {error}", supported="complete, unchanged files") from None
    errors = [finding for finding in findings if finding.is_error]
    if errors:
        raise HsnnError(errors)
    return infer_types(graph), findings


def _read(
    file: h5py.File, path: Path, input_shape: tuple[int, ...] | None, message_bits: int
) -> tuple[Graph, list[Finding]]:
    findings: list[Finding] = []
    builder = Builder(path.stem, input_shape, message_bits)
    for number, group in enumerate(layer_groups(file, path)):
        layer = Fields(group, f"layer{number}", path, findings.append)
        try:
            builder.add(number, layer)
        except MissingError:
            builder.skip(number)
    builder.finish(findings.append)
    return builder.graph, findings
