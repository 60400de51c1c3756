"""The integer executor: what the chip computes, for whole test sets.

Runs a quantised graph: host segments in floating point, the chip's part in integers, layer by
layer over the whole time axis. Each layer is looked at in its own window of steps, as the
schedule gives it, so that step t of every layer belongs to step t of the sample; the one step
per synapse is in the schedule, not here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

import numpy as np
import torch
from torch import Tensor

from hsnn_compiler.diagnostics import refuse
from hsnn_compiler.ir.graph import Graph, Node
from hsnn_compiler.ir.quant import STATE_SHIFT, CurrentQuant, NeuronQuant, WeightQuant
from hsnn_compiler.reference.batches import BATCH_SIZE, Inputs, batches, run_in_batches
from hsnn_compiler.reference.loihi_neuron import NeuronParameters, scan
from hsnn_compiler.reference.loihi_synapse import IntegerSynapse
from hsnn_compiler.reference.result import Record, Result, join
from hsnn_compiler.reference.torch_ops import bind, tensor


class LoihiExecutor:
    """Runs a quantised graph in Loihi's integers.

    Args:
        graph: after ``quantise`` (else E0105).
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.order = graph.topological()
        self.timesteps = graph.timesteps or 1
        self._synapses: dict[str, IntegerSynapse] = {}
        self._host = {}
        self._chip = {node.name for node in self.order if node.on_chip and node.kind != "Encode"}
        for node in self.order:
            if isinstance(node.quant, WeightQuant):
                quant = node.quant
                self._synapses[node.name] = IntegerSynapse(quant.integers, node.op, quant.exponent, quant.bits)
            elif not node.is_neuron and node.kind not in ("Encode", "Decode", "Concat", "Flatten"):
                if node.on_chip:
                    raise refuse("E0105", f"{node.kind} on the chip is not quantised", node=node.name)
                self._host[node.name] = bind(node.op, torch.float32)
            elif node.kind == "Flatten":
                self._host[node.name] = bind(node.op, torch.float32)

    def run(
        self,
        inputs: Inputs,
        record: Collection[Record] = (),
        batch_size: int = BATCH_SIZE,
        progress: Callable[[int, int], None] | None = None,
    ) -> Result:
        """Run samples [samples, ...] in batches; arguments as `FloatExecutor.run`."""
        return run_in_batches(self.graph, inputs, batch_size, lambda batch: self.run_batch(batch, record), progress)

    @torch.no_grad()
    def run_batch(self, inputs: Mapping[str, np.ndarray], record: Collection[Record] = ()) -> Result:
        """Run one batch. Chip signals are [time, batch, ...] integers, host signals [batch, ...] floats."""
        result = Result()
        signals: dict[str, Tensor] = {}
        for node in self.order:
            signals[node.name] = self._evaluate(node, inputs, signals, record, result)
            if node.kind == "Output":
                result.outputs[node.name] = signals[node.name].numpy().copy()
        return result

    @torch.no_grad()
    def mantissas(self, inputs: Inputs) -> dict[str, np.ndarray]:
        """What the host writes into the chip, before anything runs there.

        Returns the bias mantissas [samples, ...] int32 of each population that an Encode feeds,
        constant part included.
        """
        before = [node for node in self.order if not self.graph.ancestors(node.name) & self._chip]
        fed = [
            node
            for node in self.order
            if node.is_neuron and any(self.graph[edge.src].kind == "Encode" for edge in self.graph.in_edges(node.name))
        ]
        collected: dict[str, list[np.ndarray]] = {node.name: [] for node in fed}
        for batch, _, _ in batches(self.graph, inputs, BATCH_SIZE):
            signals: dict[str, Tensor] = {}
            for node in before:
                if not (node.is_neuron or (node.is_synapse and node.on_chip)):
                    signals[node.name] = self._evaluate(node, batch, signals, (), Result())
            for node in fed:
                mantissa = self._bias_mantissa(node, signals)
                collected[node.name].append(mantissa.to(torch.int32).numpy())
        return {name: np.concatenate(parts) for name, parts in collected.items()}

    @torch.no_grad()
    def complete(self, inputs: Inputs, chip: Mapping[str, np.ndarray]) -> Result:
        """Outputs for given chip results: spikes or potentials [samples, time, ...] of the populations that
        leave the chip, e.g. recorded from Lava.
        """
        results = []
        for batch, done, _ in batches(self.graph, inputs, BATCH_SIZE):
            size = len(next(iter(batch.values())))
            signals = {
                name: torch.from_numpy(np.asarray(array[done - size : done], np.int64)).transpose(0, 1)
                for name, array in chip.items()
            }
            result = Result()
            for node in self.order:
                if not node.on_chip:
                    signals[node.name] = self._evaluate(node, batch, signals, (), result)
                if node.kind == "Output":
                    result.outputs[node.name] = signals[node.name].numpy().copy()
            results.append(result)
        return join(results)

    # -- one node -----------------------------------------------------------------------------

    def _evaluate(
        self,
        node: Node,
        inputs: Mapping[str, np.ndarray],
        signals: Mapping[str, Tensor],
        record: Collection[Record],
        result: Result,
    ) -> Tensor:
        if node.kind == "Input":
            return tensor(inputs[node.name], torch.float32)
        if node.kind == "Encode":
            return self._present(node, signals, result)
        if node.is_neuron:
            return self._neuron(node, signals, record, result)
        if node.name in self._synapses:
            spikes = signals[self.graph.in_edges(node.name)[0].src]
            currents = self._synapses[node.name](spikes.flatten(0, 1))
            return currents.unflatten(0, spikes.shape[:2])
        if node.kind == "Decode":
            return self._decode(node, signals)
        arrived = [signals[edge.src] for edge in self.graph.in_edges(node.name)]
        if node.kind == "Concat":
            return torch.cat(arrived, dim=node.op.axis % len(node.shape) + 1)
        value = sum(arrived[1:], start=arrived[0])
        if node.on_chip:  # Flatten: the only op on the chip that is neither neuron nor synapse
            return self._host[node.name](value.flatten(0, 1)).unflatten(0, value.shape[:2])
        return self._host[node.name](value)

    def _present(self, node: Node, signals: Mapping[str, Tensor], result: Result) -> Tensor:
        """Bias mantissas [batch, ...] of an analog input."""
        if not isinstance(node.quant, CurrentQuant):
            raise refuse("E0105", "an Encode that is not quantised", node=node.name)
        value = signals[self.graph.in_edges(node.name)[0].src]
        mantissas, clipped = node.quant.present(value.numpy())
        result.saturated[node.name] = result.saturated.get(node.name, 0) + clipped
        return torch.from_numpy(mantissas).to(torch.int64)

    def _bias_mantissa(self, node: Node, signals: Mapping[str, Tensor]) -> Tensor:
        """Constant mantissa plus those of the Encodes, [batch or 1, ...]."""
        quant = node.quant
        assert isinstance(quant, NeuronQuant)
        mantissa = torch.from_numpy(quant.bias_mant).to(torch.int64).broadcast_to(node.shape)[None]
        for edge in self.graph.in_edges(node.name):
            if self.graph[edge.src].kind == "Encode":
                mantissa = mantissa + signals[edge.src]
        return mantissa

    def _neuron(self, node: Node, signals: Mapping[str, Tensor], record: Collection[Record], result: Result) -> Tensor:
        quant = node.quant
        if not isinstance(quant, NeuronQuant) or node.dynamics is None:
            raise refuse("E0105", "neurons that are not quantised", node=node.name)
        bias = self._bias_mantissa(node, signals) << quant.bias_exp
        reset = node.dynamics.reset if node.is_spiking else "zero"
        parameters = NeuronParameters(quant.du, quant.dv, quant.vth, bias, quant.v_init, reset)
        arrived = [signals[e.src] for e in self.graph.in_edges(node.name) if self.graph[e.src].kind != "Encode"]
        if arrived:
            current = sum(arrived[1:], start=arrived[0])
        else:
            current = torch.zeros((), dtype=torch.int64).expand(self.timesteps, len(bias), *node.shape)
        keep = frozenset(variable for name, variable in record if name == node.name)
        done = scan(parameters, current, keep | ({"v"} if not node.is_spiking else frozenset()))
        result.saturated[node.name] = done.saturated
        result.spikes[node.name] = int(done.spikes.sum())
        for variable in keep:
            state = done.spikes if variable == "s" else done.states[variable].to(torch.int32)
            result.trace[node.name, variable] = np.ascontiguousarray(state.transpose(0, 1).numpy())
        return done.spikes if node.is_spiking else done.states["v"]

    def _decode(self, node: Node, signals: Mapping[str, Tensor]) -> Tensor:
        """Count or read what leaves the chip, in real units; several sources add up."""
        kind, gain = node.op.kind, node.op.gain
        total = torch.zeros(())
        for source in self.graph.predecessors(node.name):
            value = signals[source.name]
            part = (value[-1] if kind == "last" else value.sum(0)).to(torch.float32)
            if not source.is_spiking:
                assert isinstance(source.quant, NeuronQuant)
                part = part / (source.quant.scale * 2**STATE_SHIFT)
            total = total + part
        return total * (gain / self.timesteps if kind == "mean" else gain)
