"""What `executors.py` compares the float executor with: plain PyTorch and four libraries, on the CPU.

All share one way to run a network: synapses over the folded time and sample axes, then the library's own neurons.
"""

from __future__ import annotations

import math
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from executor_nets import DECAY, Net, apply, lif
from torch import Tensor

Neurons = Callable[[Tensor], Tensor]
"""From currents to spikes, both [time, samples, ...] (sinabs: [samples, time, ...]); each call starts anew."""


def plain_torch(threshold: float, mode: str) -> Neurons:
    return lambda current: lif(current, threshold)


def snntorch(threshold: float, mode: str) -> Neurons:
    """One step at a time: it has no neuron with a reset over several."""
    from snntorch import Leaky

    leaky = Leaky(DECAY, threshold, surrogate_disable=True, reset_mechanism="subtract", reset_delay=False).eval()

    def run(current: Tensor) -> Tensor:
        mem = torch.zeros_like(current[0])
        spikes = []
        for now in current:
            spike, mem = leaky(now, mem)
            spikes.append(spike)
        return torch.stack(spikes)

    return run


def spikingjelly(threshold: float, mode: str) -> Neurons:
    """Its registered CPU operator, or (for a surrogate it does not know) its own reference loop."""
    from spikingjelly.activation_based import functional, neuron, surrogate

    step = surrogate.Sigmoid() if mode == "operator" else lambda x: (x >= 0).to(x)
    tau = 1 / (1 - DECAY)
    node = neuron.LIFNode(tau, False, threshold, None, step, step_mode="m").eval()

    def run(current: Tensor) -> Tensor:
        functional.reset_net(node)
        return node(current)

    return run


def norse(threshold: float, mode: str) -> Neurons:
    """LIFBox scales its input by 1 - decay: so is the threshold."""
    from norse.torch.functional.lif_box import LIFBoxFeedForwardState, LIFBoxParameters, lif_box_feed_forward_step
    from norse.torch.functional.reset import reset_subtract
    from norse.torch.module.snn import SNN

    parameters = LIFBoxParameters(
        tau_mem_inv=torch.tensor((1 - DECAY) / 0.001),
        v_th=torch.tensor(threshold * (1 - DECAY)),
        reset_method=reset_subtract,
    )
    box = SNN(
        lif_box_feed_forward_step, lambda x: LIFBoxFeedForwardState(torch.zeros_like(x[0])), parameters, dt=0.001
    ).eval()
    return lambda current: box(current)[0]


def sinabs(threshold: float, mode: str) -> Neurons:
    try:
        import pylab  # noqa: F401
    except ImportError:  # it is for one plot only
        sys.modules["pylab"] = types.ModuleType("pylab")
    from sinabs.activation import MembraneSubtract, SingleSpike
    from sinabs.layers import LIF

    layer = LIF(
        -1 / math.log(DECAY),
        spike_threshold=torch.tensor(threshold),
        spike_fn=SingleSpike,
        reset_fn=MembraneSubtract(),
        norm_input=False,
    ).eval()

    def run(current: Tensor) -> Tensor:
        if layer.is_state_initialised():
            layer.reset_states()
        return layer(current)

    return run


PEERS: dict[str, Callable[[float, str], Neurons]] = {
    "torch": plain_torch,
    "snnTorch": snntorch,
    "SpikingJelly": spikingjelly,
    "Norse": norse,
    "sinabs": sinabs,
}
MODES = {"SpikingJelly": ["operator", "reference"]}

CORES = torch.get_num_threads()


@dataclass(frozen=True)
class Variant:
    """One way to run a peer.

    Attributes:
        part: samples that are folded with time at once: currents of more may leave the cache.
        channels_last: memory format of weights and inputs of convolutions.
        mode: of the neurons, where a library has several.
        threads: of PyTorch.
    """

    part: int
    channels_last: bool
    mode: str
    threads: int

    def __str__(self) -> str:
        last = "channels_last" if self.channels_last else "contiguous"
        return ", ".join(filter(None, (f"{self.part} at once", last, self.mode, f"threads: {self.threads}")))


def variants(peer: str, net: str, batch: int) -> list[Variant]:
    return [
        Variant(part, last, mode, threads)
        for part in ([16, 256] if batch > 16 else [batch])
        for last in ([False, True] if net == "conv" else [False])
        for mode in MODES.get(peer, [""])
        for threads in sorted({1, CORES})
    ]


class Peer:
    """A network in one of the libraries. ImportError if it is not installed.

    Args:
        name: one of `PEERS`.
        net: what to run.
        variant: how.
    """

    def __init__(self, name: str, net: Net, variant: Variant) -> None:
        self.net, self.variant = net, variant
        self.samples_first = name == "sinabs"
        self.neurons = [PEERS[name](threshold, variant.mode) for threshold in net.thresholds]
        self.weights = [self._format(torch.from_numpy(synapse.real)) for synapse in net.synapses]

    @torch.no_grad()
    def run(self, x: np.ndarray, counts: list[int] | None = None) -> np.ndarray:
        """Output spikes [samples, time, 10] for input spikes; adds up those of each layer in `counts`.

        How many threads PyTorch has is the caller's to set: to do so makes oneDNN forget what it prepared.
        """
        outputs = []
        for part in torch.from_numpy(x).split(self.variant.part):
            spikes = (part if self.samples_first else part.transpose(0, 1)).float()
            for i, (synapse, weight) in enumerate(zip(self.net.synapses, self.weights, strict=True)):
                current = apply(synapse, weight, self._format(spikes.flatten(0, 1)))
                spikes = self.neurons[i](current.unflatten(0, spikes.shape[:2]))
                if counts is not None:
                    counts[i] += int(spikes.sum())
            outputs.append(spikes if self.samples_first else spikes.transpose(0, 1))
        return torch.cat(outputs).numpy()

    def _format(self, tensor: Tensor) -> Tensor:
        if tensor.ndim == 4 and self.variant.channels_last:
            return tensor.contiguous(memory_format=torch.channels_last)
        return tensor
