# SPDX-License-Identifier: BSD-3-Clause
"""A stage of the host between two turns of the chip: reads a window, runs an ONNX model, and fills the next window."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyOutPort, PyRefPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.ports.ports import InPort, OutPort, RefPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.resources import CPU
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol

Shape = tuple[int, ...]


class Window(NamedTuple):
    """Something that exists once per step: spikes.

    Attributes:
        shape: as the model has it, channels first; on the ports it is Lava's, (width, height, channels).
        depth: the window of sample k begins behind step ``k * interval + depth``.
    """

    shape: Shape
    depth: int


class Potential(NamedTuple):
    """What a population that never fires holds at the end of its window: v / unit, as float32."""

    shape: Shape
    depth: int
    unit: float


class Bias(NamedTuple):
    """Bias mantissas of a population, written as its window begins.

        constant + sum over values of clip(rint(value * unit), low, high)

    Attributes:
        shape: as the model has it.
        depth: of the population.
        values: by output of the model: unit, low, high.
        constant: integers, in Lava's layout.
    """

    shape: Shape
    depth: int
    values: Mapping[str, tuple[float, int, int]]
    constant: np.ndarray


class HostStage(AbstractProcess):
    """Runs a model on the host once per sample; made by `host_stage`, which says what the arguments are.

    Attributes:
        reads: ports by what the model reads of the chip or of another stage: an InPort, for potentials a RefPort.
        sends: OutPorts by what it sends: spikes to synapses, values to another stage.
        biases: RefPorts by population.
    """

    reads: dict[str, Any]
    sends: dict[str, Any]
    biases: dict[str, Any]


def host_stage(
    *,
    name: str,
    model: Path,
    samples: int,
    steps: int,
    interval: int,
    depth: int,
    spikes: Mapping[str, Window] = {},
    potentials: Mapping[str, Potential] = {},
    values: Mapping[str, Window] = {},
    given: Mapping[str, np.ndarray] = {},
    sends: Mapping[str, Window] = {},
    carries: Mapping[str, Shape] = {},
    biases: Mapping[str, Bias] = {},
) -> HostStage:
    """A stage of the host.

    In step ``k * interval + depth``, when all windows of sample k are complete, it runs the model on them; what it
    sends fills the window that then begins. One thread, one sample at a time: the same numbers every time.

    Args:
        name: of the process, used in messages.
        model: an ONNX file. Inputs are named as what is read, [1, ...] float32, spikes [1, steps, ...]; outputs as what
            is given, with ``.out`` behind.
        samples: how many there are.
        steps: of a window.
        interval: steps from one sample to the next.
        depth: see above.
        spikes: that it reads, by name of the population.
        potentials: that it reads.
        values: of other stages that it reads, of which a sample lies on the port from the first step of its window on.
        given: values that are known before anything runs, [samples, ...].
        sends: spikes that it gives, each window beginning behind ``depth``.
        carries: shapes of values that it gives to other stages.
        biases: that it gives to populations.
    """
    process, _ = _classes(len(spikes), len(potentials), len(values), len(sends), len(carries), len(biases))
    made: HostStage = process(
        name=name,
        model=str(model),
        samples=samples,
        steps=steps,
        interval=interval,
        depth=depth,
        spikes=dict(spikes),
        potentials=dict(potentials),
        values=dict(values),
        given={key: np.asarray(array, np.float32) for key, array in given.items()},
        sends=dict(sends),
        carries=dict(carries),
        biases=dict(biases),
    )
    return made


def lava_shape(shape: Shape) -> Shape:
    """[C, H, W] as (W, H, C), [C, L] as (L, 1, C), [N] as (N,); other shapes travel flat."""
    if len(shape) == 3:
        return shape[::-1]
    return (shape[1], 1, shape[0]) if len(shape) == 2 else shape if len(shape) == 1 else (int(np.prod(shape)),)


def to_lava(array: np.ndarray, shape: Shape) -> np.ndarray:
    """[..., *shape] as [..., *lava_shape(shape)]."""
    lead = array.shape[: array.ndim - len(shape)]
    axes = (*range(len(lead)), *reversed(range(len(lead), array.ndim)))
    turned = array.transpose(axes) if len(shape) in (2, 3) else array
    return np.ascontiguousarray(turned).reshape(*lead, *lava_shape(shape))


def from_lava(array: np.ndarray, shape: Shape) -> np.ndarray:
    """The inverse of `to_lava`."""
    lead = array.shape[: array.ndim - len(lava_shape(shape))]
    if len(shape) not in (2, 3):
        return array.reshape(*lead, *shape)
    turned = array.reshape(*lead, *shape[::-1])
    return turned.transpose(*range(len(lead)), *reversed(range(len(lead), turned.ndim)))


_PORTS = ("spikes", "potentials", "values", "sends", "carries", "biases")
_KINDS = (InPort, RefPort, InPort, OutPort, OutPort, RefPort)
_TYPES = (
    LavaPyType(PyInPort.VEC_DENSE, np.int32),
    LavaPyType(PyRefPort.VEC_DENSE, np.int32),
    LavaPyType(PyInPort.VEC_DENSE, float),
    LavaPyType(PyOutPort.VEC_DENSE, np.int32),
    LavaPyType(PyOutPort.VEC_DENSE, float),
    LavaPyType(PyRefPort.VEC_DENSE, np.int32),
)


def _init(self: Any, **params: Any) -> None:
    AbstractProcess.__init__(self, **params)
    made: dict[str, dict[str, Any]] = {}
    for what, kind in zip(_PORTS, _KINDS, strict=True):
        made[what] = {}
        for i, (name, item) in enumerate(params[what].items()):
            shape = item if what == "carries" else item.shape
            made[what][name] = kind(shape=lava_shape(shape))
            setattr(self, f"{what}_{i}", made[what][name])
    self.reads = {**made["spikes"], **made["potentials"], **made["values"]}
    self.sends = {**made["sends"], **made["carries"]}
    self.biases = made["biases"]


def _classes(*counts: int) -> tuple[Any, Any]:
    """A process and its model with so many ports of each kind: in Lava, ports belong to the class."""
    tag_ = "_".join(map(str, counts))
    process_name, model_name = f"HostStage_{tag_}", f"PyHostStageModel_{tag_}"
    if process_name not in globals():
        ports = {f"{what}_{i}": type_ for what, n, type_ in zip(_PORTS, counts, _TYPES, strict=True) for i in range(n)}
        process = type(process_name, (HostStage,), {"__init__": _init, "__module__": __name__})
        body = {**ports, "__module__": __name__, "__annotations__": dict.fromkeys(ports, Any)}
        model = type(model_name, (_HostStageModel,), body)
        model = tag("fixed_pt", "bit_accurate_loihi")(
            requires(CPU)(implements(proc=process, protocol=LoihiProtocol)(model))
        )
        # Lava looks for the models of a process among the names of its module.
        globals().update({process_name: process, model_name: model})
    return globals()[process_name], globals()[model_name]


class _HostStageModel(PyLoihiProcessModel):
    """What all stages do; `_classes` adds the ports."""

    def __init__(self, proc_params: Any) -> None:
        super().__init__(proc_params)
        self.p: dict[str, Any] = {
            key: proc_params[key] for key in (*_PORTS, "given", "model", "steps", "interval", "depth")
        }
        self.samples: int = proc_params["samples"]
        self.session: Any = None
        self.windows: dict[str, dict[int, Any]] = defaultdict(dict)  # by what is read, then by sample
        self.results: dict[int, dict[str, np.ndarray]] = {}

    def _each(self, what: str) -> Iterable[tuple[str, Any, Any]]:
        """Names, arguments and ports of one kind."""
        return [(name, item, getattr(self, f"{what}_{i}")) for i, (name, item) in enumerate(self.p[what].items())]

    def _sample(self, since: int) -> tuple[int, int]:
        """Sample and step of its window, after so many whole steps since the first; -1 if there is none."""
        k, step = divmod(since, self.p["interval"])
        return (k, step) if 0 <= k < self.samples else (-1, step)

    def run_spk(self) -> None:
        """Send this step's part of the windows that are under way, then take in what arrives."""
        before, steps = self.time_step - 1, self.p["steps"]
        k, t = self._sample(before - self.p["depth"])
        result = self.results.get(k)
        for name, item, port in self._each("sends"):
            sent = result[name][t] if result is not None and t < steps else np.zeros(item.shape)
            port.send(to_lava(sent, item.shape).astype(np.int32))
        for name, shape, port in self._each("carries"):
            port.send(to_lava(np.zeros(shape) if result is None else result[name], shape).astype(float))
        for name, item, port in self._each("spikes"):
            arrived = port.recv()
            k, t = self._sample(before - item.depth)
            if k >= 0 and t < steps:
                self.windows[name].setdefault(k, []).append(from_lava(arrived, item.shape))
        for name, item, port in self._each("values"):
            arrived = port.recv()
            k, t = self._sample(before - item.depth)
            if k >= 0 and t == 0:
                self.windows[name][k] = from_lava(arrived, item.shape)

    def _due(self, depth: int) -> int:
        """The sample of which something is due after this step; -1 if there is none."""
        k, rest = self._sample(self.time_step - depth)
        return k if rest == 0 else -1

    def post_guard(self) -> bool:
        """Whether there is anything to do after this step."""
        p = self.p
        ends = [p["depth"], *(item.depth + p["steps"] for item in p["potentials"].values())]
        return any(self._due(depth) >= 0 for depth in [*ends, *(item.depth for item in p["biases"].values())])

    def run_post_mgmt(self) -> None:
        """After the neurons updated: read potentials, run the model, write biases."""
        for name, item, port in self._each("potentials"):
            k = self._due(item.depth + self.p["steps"])
            if k >= 0:
                self.windows[name][k] = from_lava(port.read(), item.shape).astype(np.float32) / np.float32(item.unit)
        k = self._due(self.p["depth"])
        if k >= 0:
            self.results[k] = self._run(k)
            for gone in [old for old in self.results if old < k - self._kept()]:
                del self.results[gone]
        for _, item, port in self._each("biases"):
            k = self._due(item.depth)
            if k >= 0:
                port.write(mantissas(item, self.results[k]))
                # Without it the write may arrive only during the next step.
                port.wait()

    def _kept(self) -> int:
        """Samples whose results something deeper may still need."""
        deepest = max((item.depth for item in self.p["biases"].values()), default=self.p["depth"])
        return 1 + (deepest - self.p["depth"]) // int(self.p["interval"])

    def _run(self, k: int) -> dict[str, np.ndarray]:
        """The model on sample k."""
        if self.session is None:
            self.session = session(self.p["model"])
        arrays = {name: np.stack(self.windows[name].pop(k)) for name in self.p["spikes"]}
        arrays |= {name: self.windows[name].pop(k) for name in (*self.p["potentials"], *self.p["values"])}
        arrays |= {name: array[k] for name, array in self.p["given"].items()}
        feeds = {name: np.ascontiguousarray(array, np.float32)[None] for name, array in arrays.items()}
        names = [output.name for output in self.session.get_outputs()]
        found = self.session.run(names, feeds)
        return {name.removesuffix(".out"): array[0] for name, array in zip(names, found, strict=True)}


def mantissas(bias: Bias, values: Mapping[str, np.ndarray]) -> np.ndarray:
    """What is written for a `Bias`, int32 in Lava's layout, for values [..., *shape] of the model."""
    total: Any = 0
    for name, (unit, low, high) in bias.values.items():
        total = total + np.clip(np.rint(values[name].astype(np.float64) * unit), low, high)
    return (to_lava(total, bias.shape) + bias.constant).astype(np.int32)


def session(path: str) -> Any:
    """onnxruntime with a model, on one thread: the same numbers every time."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.use_deterministic_compute = True
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
