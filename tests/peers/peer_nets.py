"""Random NIR files of what each library can import, with inputs that reach thresholds exactly and far beyond."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nir
import numpy as np

f32 = np.float32
STEPS = 25


@dataclass
class Net:
    """A file being built.

    Attributes:
        exact: all numbers lie on a coarse binary grid, so that float32 rounds nothing and thresholds are
            hit exactly; else they are anything.
        dt: length of a step handed to the library.
        spiking: neuron nodes, by the name the library's recording has (``block/lif``).
    """

    rng: np.random.Generator
    platform: str
    exact: bool
    dt: float
    nodes: dict[str, Any] = field(default_factory=dict)
    edges: list[tuple[str, str]] = field(default_factory=list)
    spiking: list[str] = field(default_factory=list)

    def grid(self, low: float, high: float, shape: Any) -> np.ndarray:
        values = self.rng.uniform(low, high, shape)
        return (np.round(values * 8) / 8 if self.exact else values).astype(f32)

    def one_of(self, *options: Any) -> Any:
        return options[int(self.rng.integers(len(options)))]

    def neuron(self, n: int, dims: tuple[int, ...] = ()) -> Any:
        """A neuron this library can import, for a population of n (or of shape `dims`)."""
        shape = dims or (n,)
        kinds = {"norse": ["IF", "LIF", "CubaLIF"], "sinabs": ["IF", "IF"] if dims or self.exact else ["IF", "LIF"]}
        kinds |= {"snntorch": ["LIF", "CubaLIF"], "spikingjelly": ["IF", "LIF", "CubaLIF"]}
        return getattr(self, f"_{self.platform}")(self.one_of(*kinds[self.platform]), shape)

    def _full(self, shape: tuple[int, ...], *options: float) -> np.ndarray:
        """Per neuron one of some numbers."""
        return np.asarray(options, f32)[self.rng.integers(len(options), size=shape)]

    def _norse(self, kind: str, shape: tuple[int, ...]) -> Any:
        full = self._full
        threshold, rest = full(shape, 0.5, 1, 1.25), full(shape, 0, 0, 0.25, -0.125)
        r, reset, tau = full(shape, 1, 2, 7), full(shape, 0, 0.25), self.dt * full(shape, 2, 4, 4, 8)
        if kind == "IF":
            return nir.IF(r=r, v_threshold=threshold, v_reset=reset)
        if kind == "LIF":
            return nir.LIF(tau=tau, r=r, v_leak=rest, v_threshold=threshold, v_reset=reset)
        syn, w_in = self.dt * full(shape, 2, 4), full(shape, 1, 4)
        return nir.CubaLIF(tau_syn=syn, tau_mem=tau, r=r, v_leak=rest, v_threshold=threshold, v_reset=reset, w_in=w_in)

    def _sinabs(self, kind: str, shape: tuple[int, ...]) -> Any:
        full = self._full
        threshold, r, reset = full(shape, 0.5, 1, 2), full(shape, 1, 3), full(shape, 0, 0.5)
        if kind == "IF":
            return nir.IF(r=r, v_threshold=threshold, v_reset=reset)
        return nir.LIF(tau=full(shape, 2.5, 5, 20), r=r, v_leak=0 * r, v_threshold=threshold, v_reset=reset)

    def _snntorch(self, kind: str, shape: tuple[int, ...]) -> Any:
        full, one = self._full, np.ones(shape, f32)
        tau = full(shape, 2e-4, 4e-4, 1e-3, 5e-5)
        if kind == "LIF":  # gains of some neurons differ: the smallest counts for all
            r = tau / f32(1e-4) * (full(shape, 1, 1.5) if self.rng.random() < 0.3 else self.one_of(f32(1), f32(3)))
            return nir.LIF(tau=tau, r=r, v_leak=0 * one, v_threshold=f32(0.75) * one, v_reset=full(shape, 0, 0.5))
        syn = full(shape, 2e-4, 5e-4)
        return nir.CubaLIF(
            tau_syn=syn, tau_mem=tau, r=tau / f32(1e-4), v_leak=0 * one, v_threshold=f32(1.5) * one, v_reset=0 * one,
            w_in=syn / f32(1e-4) * self.one_of(f32(1), f32(2.5)),
        )  # fmt: skip

    def _spikingjelly(self, kind: str, shape: tuple[int, ...]) -> Any:
        one, dt = np.ones(shape, f32), f32(self.dt)
        threshold, reset = self.one_of(f32(0.5), f32(1)) * one, self.one_of(f32(0), f32(-0.25), f32(0.125)) * one
        tau = dt * self.one_of(f32(2), f32(4)) * one
        if kind == "IF":
            return nir.IF(r=one / dt, v_threshold=threshold, v_reset=reset)
        if kind == "LIF":
            r = self.one_of(one, tau / dt)
            return nir.LIF(tau=tau, r=r, v_leak=reset, v_threshold=threshold, v_reset=reset)
        syn = dt * self.one_of(f32(2), f32(4)) * one
        return nir.CubaLIF(
            tau_syn=syn, tau_mem=tau, r=tau / dt, v_leak=0 * one, v_threshold=threshold, v_reset=reset, w_in=syn / dt
        )

    def dense(self, n_in: int, n_out: int) -> Any:
        weight = self.grid(-1, 1.5, (n_out, n_in)) * f32(2 if self.platform in ("norse", "snntorch") else 1)
        if self.platform != "sinabs" and self.rng.random() < 0.3:
            return nir.Linear(weight)
        return nir.Affine(weight, self.grid(-0.25, 0.5, n_out))

    def add(self, name: str, node: Any, *sources: str) -> str:
        self.nodes[name] = node
        self.edges += [(source, name) for source in sources]
        if type(node).__name__ in ("IF", "LIF", "CubaLIF"):
            self.spiking.append(name)
        return name

    def write(self, path: Path, shuffled: bool = True) -> Path:
        edges = [self.edges[i] for i in self.rng.permutation(len(self.edges))] if shuffled else self.edges
        nir.write(path, nir.NIRGraph(self.nodes, edges))
        return path

    def input(self, shape: tuple[int, ...]) -> np.ndarray:
        """[time, ...]: multiples of 1/4 from -1 to 3.5 thresholds, many of them zero."""
        x = self.rng.integers(-4, 15, (STEPS, *shape)) / 4 * (self.rng.random((STEPS, *shape)) < 0.6)
        return x.astype(f32)


def dense_net(net: Net, path: Path) -> tuple[Path, np.ndarray]:
    """Layers of neurons with a skip connection, loops and a nested subgraph, each perhaps."""
    n = int(net.rng.integers(2, 5))
    at = net.add("input", nir.Input(np.array([n])))
    names = [str(name) for name in net.rng.permutation(["a", "b", "c", "d", "e", "m", "p", "y"])]
    nested = net.rng.random() < 0.4
    if nested and net.platform in ("snntorch", "spikingjelly"):
        names = [*"yxwvutsrq"]  # with others it takes the subgraph up before what feeds it, and fails
    hidden = []
    for _ in range(int(net.rng.integers(1, 4))):
        weights = net.add(names.pop(), net.dense(n, n), at)
        at = net.add(names.pop(), net.neuron(n), weights)
        hidden.append(at)
    if len(hidden) > 2 and net.rng.random() < 0.6:
        net.edges.append((hidden[0], hidden[2]))
    if net.rng.random() < 0.5:
        _loop(net, net.one_of(*hidden), n, names)
    if nested:
        at = net.add("z_block", _block(net, n), at)
    net.add("output", nir.Output(np.array([n])), at)
    return net.write(path), net.input((n,))


def _loop(net: Net, neuron: str, n: int, names: list[str]) -> None:
    """A neuron to itself: directly, through weights, or (snnTorch rewrites pairs) through two weight layers."""
    kind = net.one_of("self", "weights", "two")
    if net.platform == "snntorch" and kind == "weights":
        kind = "two"
    if kind == "self":
        net.edges.append((neuron, neuron))
        return
    at = net.add(names.pop(), net.dense(n, n), neuron)
    if kind == "two":
        at = net.add("z_2", net.dense(n, n), at)
    net.edges.append((at, neuron))


def _block(net: Net, n: int) -> nir.NIRGraph:
    """Weights and a neuron that feeds itself through weights; for snnTorch without the loop."""
    inner = Net(net.rng, net.platform, net.exact, net.dt)
    inner.add("input", nir.Input(np.array([n])))
    inner.add("fc", inner.dense(n, n), "input")
    inner.add("lif", inner.neuron(n), "fc")
    if net.platform != "snntorch":
        inner.add("rec", inner.dense(n, n), "lif")  # before the Output: nirtorch returns the last node it visits
        inner.edges.append(("rec", "lif"))
    inner.add("output", nir.Output(np.array([n])), "lif")
    net.spiking += [f"z_block/{name}" for name in inner.spiking]
    return nir.NIRGraph(inner.nodes, inner.edges)


def conv_net(net: Net, path: Path) -> tuple[Path, np.ndarray]:
    """Convolution, neurons, pooling, flattening, weights, neurons; square kernels, as nir 1.0.8 wants."""
    size, channels = int(net.rng.integers(5, 8)), int(net.rng.integers(1, 4))
    at = net.add("input", nir.Input(np.array([2, size, size])))
    kernel, stride, padding = net.one_of(1, 3), net.one_of(1, 2), net.one_of((0, 0), (1, 1))
    shape = (size + 2 * padding[0] - kernel) // stride + 1
    weight = net.grid(-0.5, 0.75, (channels, 2, kernel, kernel))
    conv = nir.Conv2d((size, size), weight, stride, padding, 1, 1, net.grid(-0.25, 0.5, channels))
    at = net.add("b_conv", conv, at)
    at = net.add("c_neuron", net.neuron(0, (channels, shape, shape)), at)
    pools = {"norse": ["Sum"], "sinabs": ["Sum"], "snntorch": ["Sum", "Avg"], "spikingjelly": ["Sum", "Avg"]}
    pool = getattr(nir, net.one_of(*pools[net.platform]) + "Pool2d")(*(np.array([k, k]) for k in (2, 2, 0)))
    at = net.add("d_pool", pool, at)
    flat = channels * (shape // 2) ** 2
    at = net.add("e_flat", nir.Flatten({"input": np.array([channels, shape // 2, shape // 2])}, 0, -1), at)
    at = net.add("f_fc", net.dense(flat, 3), at)
    at = net.add("g_neuron", net.neuron(3), at)
    net.add("output", nir.Output(np.array([3])), at)
    return net.write(path), net.input((2, size, size))
