"""The layer kernels on two networks, beside PyTorch over the folded time axis: thousand sample-steps per second.

    python benchmarks/kernels.py [--quick] [--best]

Dense: 784-256-10. Convolutions on 34x34x2: 5x5 to 16 channels (stride 2), 3x3 to 32, 3x3 to 64 (stride 2), dense to 10.
Thresholds are set so that every layer spikes about as often as the input. 16 steps. Rounds of all variants
alternate, and medians count; with --best the best rounds, if others use the machine. --quick: only "auto" and torch.
"""

import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from hsnn_compiler.kernels import ConvSynapse, DenseSynapse, FloatNeuron, Layer, LoihiNeuron

TIME = 16
ROUNDS = 9
SECONDS = 0.15
"""Repeat a variant for so long per round."""
TORCH_SAMPLES = 16
"""Samples that PyTorch folds with time at once: currents of more would leave the cache."""
DECAY = 0.9

Network = list[Layer]


def shapes(name: str, rng: np.random.Generator) -> list[ConvSynapse | DenseSynapse]:
    def weight(*shape: int) -> np.ndarray:
        return np.rint(64 * rng.normal(0.02, 1, shape)).astype(np.int32)

    if name == "dense":
        return [DenseSynapse(weight(256, 784)), DenseSynapse(weight(10, 256))]
    pad = ((1, 1), (1, 1))
    return [
        ConvSynapse(weight(16, 2, 5, 5), (34, 34, 2), (2, 2), pad),
        ConvSynapse(weight(32, 16, 3, 3), (16, 16, 16), (1, 1), pad),
        ConvSynapse(weight(64, 32, 3, 3), (16, 16, 32), (2, 2), pad),
        DenseSynapse(weight(10, 4096)),
    ]


def inputs(name: str, batch: int, activity: float) -> np.ndarray:
    shape = (batch, TIME, 784) if name == "dense" else (batch, TIME, 34, 34, 2)
    return (np.random.default_rng(1).random(shape) < activity).astype(np.uint8)


def network(name: str, activity: float, dtype: type) -> Network:
    """Layers of which each spikes about as often as the input."""
    x = inputs(name, 8, activity)
    layers: Network = []
    for synapse in shapes(name, np.random.default_rng(0)):
        low, high = 0, 2**17
        while high - low > max(low // 50, 1):
            threshold = (low + high) // 2
            layer = Layer([synapse], neuron(threshold, dtype), dtype=dtype)
            low, high = (threshold, high) if layer.run([x]).spikes.mean() > activity else (low, threshold)
        layers.append(layer)
        x = layer.run([x]).spikes
    return layers


def neuron(threshold: int, dtype: type) -> FloatNeuron | LoihiNeuron:
    if dtype == np.int32:
        return LoihiNeuron(4095, round(4096 * (1 - DECAY)), threshold)
    return FloatNeuron(DECAY, threshold=float(threshold))


def run(layers: Network, x: np.ndarray, method: str) -> list[float]:
    activities = []
    for layer in layers:
        done = layer.run([x], method=method)
        x = done.spikes
        activities.append(done.activity)
    return activities


@torch.no_grad()
def run_torch(layers: Network, weights: list[torch.Tensor], x: torch.Tensor) -> None:
    for part in x.split(TORCH_SAMPLES):
        for layer, weight in zip(layers, weights, strict=True):
            synapse = layer.synapses[0]
            folded = part.flatten(0, 1).float()
            if isinstance(synapse, DenseSynapse):
                current = F.linear(folded.flatten(1), weight)
            else:
                current = F.conv2d(folded.permute(0, 3, 1, 2), weight, None, synapse.stride, synapse.padding[0])
                current = current.permute(0, 2, 3, 1)
            current = current.unflatten(0, part.shape[:2])
            v = torch.zeros_like(current[:, 0])
            spikes = torch.empty(current.shape, dtype=torch.uint8)
            for t in range(TIME):
                v = DECAY * v + current[:, t]
                s = v > layer.neuron.threshold
                v = v.masked_fill(s, 0)
                spikes[:, t] = s
            part = spikes


def rates(variants: dict[str, Callable[[], object]], steps: int) -> dict[str, float]:
    """Thousand sample-steps per second of each variant."""
    middle = min if "--best" in sys.argv else statistics.median
    times: dict[str, list[float]] = {name: [] for name in variants}
    for function in variants.values():
        function()
    for _ in range(ROUNDS):
        for name, function in variants.items():
            count, start = 0, time.perf_counter()
            while (passed := time.perf_counter() - start) < SECONDS:
                function()
                count += 1
            times[name].append(passed / count)
    return {name: steps / middle(values) / 1000 for name, values in times.items()}


def table(name: str, batches: list[int], activities: list[float]) -> None:
    print(f"\n{name}: thousand sample-steps per second (auto / torch)")
    methods = ("auto",) if "--quick" in sys.argv else ("events", "dense", "auto")
    head = ("batch", "active", *(f"{d} {m}" for d in ("f32", "i32") for m in methods), "torch")
    print("".join(f"{title:>12}" for title in head))
    for activity in activities:
        nets = {"f32": network(name, activity, np.float32), "i32": network(name, activity, np.int32)}
        weights = [torch.from_numpy(layer.synapses[0].weight).float() for layer in nets["f32"]]
        weights = [w.contiguous(memory_format=torch.channels_last) if w.ndim == 4 else w for w in weights]
        for batch in batches:
            x = inputs(name, batch, activity)
            tensor = torch.from_numpy(x)
            variants: dict[str, Callable[[], object]] = {
                f"{d} {m}": lambda layers=layers, m=m, x=x: run(layers, x, m)
                for d, layers in nets.items()
                for m in methods
            }
            variants["torch"] = lambda nets=nets, weights=weights, tensor=tensor: run_torch(
                nets["f32"], weights, tensor
            )
            found = rates(variants, batch * TIME)
            print(f"{batch:>12}{activity:>12.0%}" + "".join(f"{found[v]:>12.1f}" for v in variants), end="")
            print(f"  ({found['f32 auto'] / found['torch']:.1f}, {found['i32 auto'] / found['torch']:.1f})", flush=True)
        measured = {d: run(layers, inputs(name, 32, activity), "auto") for d, layers in nets.items()}
        print(f"{'':>12}active: " + "; ".join(f"{d} {', '.join(f'{a:.1%}' for a in m)}" for d, m in measured.items()))


def memory() -> None:
    """Peak memory of the convolutions at batch 256 beside that of the imports, each in a process of its own."""
    for dtype in ("float32", "int32"):
        peaks = [
            int(
                subprocess.run([sys.executable, __file__, "--peak", dtype, size], capture_output=True, text=True).stdout
            )
            for size in ("0", "256")
        ]
        print(f"\npeak memory, convolutions, batch 256, {dtype}: {peaks[1]} MB, of which imports {peaks[0]} MB")


def peak(dtype: str, batch: int) -> None:
    if batch:
        layers = [
            Layer([synapse], neuron(2000, np.dtype(dtype).type), dtype=np.dtype(dtype))
            for synapse in shapes("conv", np.random.default_rng(0))
        ]
        run(layers, inputs("conv", batch, 0.1), "auto")
    # Not ru_maxrss: that of a process begins with what its parent had.
    status = Path("/proc/self/status").read_text()
    print(int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) // 1024)


def main() -> None:
    if "--peak" in sys.argv:
        peak(sys.argv[-2], int(sys.argv[-1]))
        return
    for name in ("dense", "conv"):
        table(name, [1, 256], [0.02, 0.1, 0.3])
    memory()


if __name__ == "__main__":
    main()
