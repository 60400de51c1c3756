"""NIR files of every form, and comparison of what nir itself reads from two of them."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import h5py
import nir
import numpy as np
from picks import Picks


def values(p: Picks, shape: tuple[int, ...], positive: bool = False) -> np.ndarray:
    """Numbers of any type that such files hold, integers among them."""
    rng = p.rng()
    made = rng.integers(1, 9, shape) if positive else rng.integers(-8, 9, shape)
    array = np.asarray(made).astype(p.choice(["<f4", "<f4", "<f8", "<f2", "<i8", "<i4", ">f4"]))
    return array if shape else array[()]  # nir cannot write arrays of no dimension, but plain numbers


def neuron(p: Picks, shape: tuple[int, ...]) -> Any:
    kind = p.choice(["I", "LI", "IF", "LIF", "CubaLI", "CubaLIF"])
    fields = {
        "I": ("r",), "LI": ("tau", "r", "v_leak"), "IF": ("r", "v_threshold", "v_reset"),
        "LIF": ("tau", "r", "v_leak", "v_threshold", "v_reset"),
        "CubaLI": ("tau_syn", "tau_mem", "r", "v_leak", "w_in"),
        "CubaLIF": ("tau_syn", "tau_mem", "r", "v_leak", "v_threshold", "w_in", "v_reset"),
    }[kind]  # fmt: skip
    return getattr(nir, kind)(**{key: values(p, shape, positive=True) for key in fields})


def metadata(p: Picks) -> dict[str, Any]:
    """Any of what tools write there."""
    found = {
        "note": "exported by a tool, ü",
        "count": np.int64(p.integer(0, 9)),
        "rates": values(p, (3,)),
        "nested": {"deeper": {"text": "x", "number": 0.25}},
        "names": np.array(["a", "bc"], dtype=h5py.string_dtype()),
    }
    return {key: value for key, value in found.items() if p.flag()}


def random_nir(p: Picks, depth: int = 2, n: int = 3) -> nir.NIRGraph:
    """A graph as NIR's own tools make them: subgraphs, loops, metadata, any dtype, odd names."""
    names = ["0", "10", "2", "a.b", "lif1.lif", "ä ö", "z", "conv-1", "f"]
    nodes: dict[str, Any] = {"input": nir.Input(np.array([n]))}
    nodes["input"].metadata = metadata(p)
    edges = []
    at = "input"
    for _ in range(p.integer(1, 4)):
        name = names.pop(p.integer(0, len(names) - 1))
        kind = p.choice(["neuron", "Affine", "Linear", "Scale", "Threshold", "Delay", "graph"])
        if kind == "graph" and depth:
            nodes[name] = random_nir(p, depth - 1, n)
        elif kind in ("neuron", "graph"):
            nodes[name] = neuron(p, (n,))
        elif kind == "Affine":
            nodes[name] = nir.Affine(values(p, (n, n)), values(p, (n,)))
        elif kind == "Linear":
            nodes[name] = nir.Linear(values(p, (n, n)))
        else:
            nodes[name] = getattr(nir, kind)(values(p, (n,), positive=True))
        if not isinstance(nodes[name], nir.NIRGraph):
            nodes[name].metadata = metadata(p)
        edges.append((at, name))
        at = name
    if p.flag():
        back = p.choice([name for name in nodes if name != "input"])
        edges.append((at, back))
    nodes["output"] = nir.Output(np.array([n]))
    nodes["output"].metadata = metadata(p)
    edges.append((at, "output"))
    order = sorted(edges, key=lambda _: p.integer(0, 9))
    return nir.NIRGraph(nodes, list(dict.fromkeys(order)), metadata=metadata(p))


def convolutional(p: Picks) -> nir.NIRGraph:
    """Every op with sizes, given as scalars, tuples or arrays; parameters of neurons in three dimensions."""
    size = 8
    one = p.choice([1, (1, 1), np.array([1, 1], np.int32)])
    weight = values(p, (2, 2, 3, 3))
    padding = p.choice([1, (1, 1), "same"])
    nodes = {
        "input": nir.Input(np.array([2, size, size])),
        "conv": nir.Conv2d(p.choice([None, (size, size)]), weight, one, padding, 1, 1, values(p, (2,))),
        "n": neuron(p, (2, size, size)),
        "pool": p.choice([nir.SumPool2d, nir.AvgPool2d])(*(np.array([k, k]) for k in (2, 2, 0))),
        "flat": nir.Flatten({"input": np.array([2, 4, 4])}, 0, -1),
        "out": nir.Output(np.array([32])),
    }  # fmt: skip
    return nir.NIRGraph(nodes, list(itertools.pairwise(nodes)), metadata=metadata(p))


def same_file(first: Path, second: Path, type_check: bool = True) -> None:
    """Both are equal in all that nir reads: nodes, parameters with dtype and shape, edges in order, metadata."""
    _same(nir.read(first, type_check).to_dict(), nir.read(second, type_check).to_dict(), "")


def _same(a: Any, b: Any, where: str) -> None:
    assert type(a) is type(b), (where, a, b)
    if isinstance(a, dict):
        assert sorted(a) == sorted(b), (where, sorted(a), sorted(b))
        for key in a:
            _same(a[key], b[key], f"{where}/{key}")
    elif isinstance(a, (np.ndarray, np.generic)):
        assert (a.dtype, a.shape) == (b.dtype, b.shape), (where, a, b)
        np.testing.assert_array_equal(a, b, err_msg=where)
    else:
        assert a == b, (where, a, b)
