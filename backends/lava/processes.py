"""Which Lava process a node becomes, and its arguments."""

from __future__ import annotations

from typing import Any

import numpy as np

from hsnn_compiler.backends.lava.layout import conv_arguments, dense_weights, lava_shape, to_lava
from hsnn_compiler.backends.lava.writer import Code, Writer
from hsnn_compiler.ir.graph import Node
from hsnn_compiler.ir.payloads import fires_once
from hsnn_compiler.ir.quant import FirstSpikeQuant, NeuronQuant, SigmaDeltaQuant, WeightQuant

# Lava's Dense adds the columns of active inputs, its Sparse cuts them out of a csr_matrix first, which only
# pays for large matrices; with payloads both multiply the whole. Measured with numpy 2.4 and scipy 1.17, where a
# tenth of the inputs is active, at which size and share of weights other than zero Sparse takes less time.
SPARSE_BINARY, SPARSE_GRADED = (2**18, 1 / 16), (2**14, 1 / 4)
_CONV_DEFAULTS = {"padding": (0, 0), "stride": (1, 1), "dilation": (1, 1), "groups": 1}


def is_soft(node: Node) -> bool:
    """Whether the reset subtracts the threshold, for which Lava has no process."""
    return node.is_spiking and node.dynamics is not None and node.dynamics.reset == "subtract"


def is_ours(node: Node) -> bool:
    """Whether a population of LIF neurons is a process of our own: each has a start potential to return to."""
    return is_soft(node) or (isinstance(node.quant, NeuronQuant) and node.quant.has_own_decays)


def is_sparse(quant: WeightQuant) -> bool:
    """Whether a matrix is so large and has so few weights other than zero that Lava's Sparse is the faster process."""
    size, share = SPARSE_GRADED if quant.message_bits else SPARSE_BINARY
    return quant.integers.size >= size and int(np.count_nonzero(quant.integers)) <= share * quant.integers.size


def synapse(
    writer: Writer, node: Node, input_shape: tuple[int, ...], *, flat: bool = False, sparse: bool | None = None
) -> str:
    """Write a synapse process; returns the expression that stands for it.

    Args:
        writer: gets the lines and arrays.
        node: a quantised synapse op.
        input_shape: what feeds it, in the graph's layout.
        flat: whether it is fed in the graph's order already, or by Lava's order of a flattened image.
        sparse: whether to use Sparse for Dense; by default `is_sparse` says.
    """
    quant = node.quant
    assert isinstance(quant, WeightQuant)
    sparse = is_sparse(quant) if sparse is None else sparse
    arguments: dict[str, Any] = {"name": node.name}
    if node.kind.startswith("Conv"):
        kernel = conv_arguments(node.op, quant.integers)
        kernel["weight"] = writer.array(f"{node.name}.weight", kernel["weight"])
        kernel["input_shape"] = lava_shape(input_shape)
        arguments |= {key: value for key, value in kernel.items() if _CONV_DEFAULTS.get(key) != value}
    else:
        weights = quant.integers.astype(np.int32) if flat else dense_weights(quant.integers, input_shape)
        arguments["weights"] = (_sparse if sparse else Writer.array)(writer, f"{node.name}.weight", weights)
        if quant.exponent:
            arguments["weight_exp"] = quant.exponent
        if quant.bits != 8:
            arguments["num_weight_bits"] = quant.bits
    if quant.message_bits:
        arguments["num_message_bits"] = quant.message_bits
    kind = "Conv" if node.kind.startswith("Conv") else "Sparse" if sparse else "Dense"
    return writer.process(kind, node.name, arguments)


def _sparse(writer: Writer, name: str, weights: np.ndarray) -> Code:
    """A matrix as its entries row by row, their columns, and where each row begins."""
    rows, columns = np.nonzero(weights)
    begins = np.searchsorted(rows, np.arange(len(weights) + 1))
    parts = {"data": weights[rows, columns], "columns": columns.astype(np.int32), "rows": begins.astype(np.int32)}
    codes = [writer.array(f"{name}.{part}", array) for part, array in parts.items()]
    writer.used.add("csr_matrix")
    return Code(f"csr_matrix(({', '.join(map(repr, codes))}), {weights.shape})")


def lif(writer: Writer, node: Node, *, interval: int | Code | None, offset: int, bias: Code | None = None) -> str:
    """Write a population of LIF neurons; returns the expression that stands for it.

    Args:
        writer: gets the lines and arrays.
        node: a quantised neuron.
        interval: steps between two returns to the start state, None for never.
        offset: the first such step, counted from 1.
        bias: the bias mantissas, where they are not those of the node.
    """
    quant = node.quant
    assert isinstance(quant, NeuronQuant)
    if bias is None:
        bias = writer.array(f"{node.name}.bias_mant", in_lava_order(quant.bias_mant, node.shape))
    arguments: dict[str, Any] = {
        "name": node.name,
        "shape": lava_shape(node.shape),
        "du": _one_or_each(writer, node, "du", quant.du),
        "dv": _one_or_each(writer, node, "dv", quant.dv),
        "vth": quant.vth,
        "bias_mant": bias,
        "bias_exp": quant.bias_exp,
    }
    start = _one_or_each(writer, node, "v_init", quant.v_init)
    if is_ours(node):
        arguments["v_init"] = start
    elif start:
        arguments["v"] = start
    if is_soft(node):
        if quant.taken is not None:
            arguments["taken"] = _one_or_each(writer, node, "taken", quant.taken)
        if not fires_once(node):
            assert node.dynamics is not None
            arguments["max_spikes"] = node.dynamics.max_spikes
    if interval is not None:
        arguments |= {"reset_interval": interval, "reset_offset": offset}
    return writer.process(lif_process(node, interval is not None), node.name, arguments)


def lif_process(node: Node, resets: bool) -> str:
    """Name of the process that a population of LIF neurons becomes; `resets`: whether to a start state, in turns."""
    ours = "SoftResetLIF" if is_soft(node) else "OwnDecaysLIF"
    return ours if is_ours(node) else "LIFReset" if resets else "LIF"


def _one_or_each(writer: Writer, node: Node, what: str, value: int | np.ndarray) -> int | Code:
    """A number, or an array with one per neuron."""
    if not isinstance(value, np.ndarray):
        return value
    return writer.array(f"{node.name}.{what}", in_lava_order(value, node.shape))


def first_spike(writer: Writer, node: Node, *, interval: int | Code, offset: int, bias: Code | None = None) -> str:
    """Write a population that fires once per window; arguments and result as those of `lif`."""
    quant = node.quant
    assert isinstance(quant, FirstSpikeQuant)
    if bias is None:
        bias = writer.array(f"{node.name}.bias_mant", in_lava_order(quant.bias_mant, node.shape))
    arguments = {
        "name": node.name,
        "shape": lava_shape(node.shape),
        "ramp": quant.ramp,
        "bias_mant": bias,
        "bias_exp": quant.bias_exp,
        "interval": interval,
        "steps": Code("TIMESTEPS"),
        "offset": offset,
    }
    return writer.process("FirstSpike", node.name, arguments)


def sigma_delta(writer: Writer, node: Node) -> str:
    """Write sigma-delta neurons or a delta encoder; returns the expression that stands for it."""
    quant = node.quant
    assert isinstance(quant, SigmaDeltaQuant)
    shape = lava_shape(node.shape)
    exponents = {"spike_exp": quant.spike_exp, "state_exp": quant.state_exp, "cum_error": bool(node.op.cumulative)}
    if node.kind == "DeltaEncoder":  # takes no name
        return writer.process("Delta", node.name, {"shape": shape, "vth": quant.vth, **exponents})
    writer.used.add("ActivationMode")
    return writer.process(
        "SigmaDelta",
        node.name,
        {
            "name": node.name,
            "shape": shape,
            "vth": quant.vth,
            "bias": writer.array(f"{node.name}.bias", in_lava_order(quant.bias, node.shape)),
            "act_mode": Code(f"ActivationMode.{node.op.activation.upper()}"),
            **exponents,
        },
    )


def in_lava_order(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """One value per neuron, in Lava's layout, int32."""
    return to_lava(np.broadcast_to(array, shape), shape).astype(np.int32)


def size(shape: tuple[int, ...]) -> str:
    """``2 x 3`` for (2, 3)."""
    return " x ".join(map(str, shape))
