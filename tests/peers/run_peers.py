"""Run one NIR file, step by step, in the libraries that can import it.

Each function takes the path of a ``.nir`` file and an input ``x`` of shape ``[time, ...]``
(the graph's input shape, no batch axis) and returns a dict of float arrays ``[time, ...]``:

- ``"output"``: what the network hands out at every step;
- ``"<node>.out"``: what a node hands out (the spikes, for a spiking neuron);
- ``"<node>.v"``, ``"<node>.u"``: membrane potential and synaptic current after the step,
  after the reset, in the library's own units (``run_snntorch`` says how they differ).

Node names are those of the file; a node inside a subgraph is ``"<subgraph>/<node>"``.
Nothing is repaired: what a library refuses raises here, what it gets wrong comes back wrong.
The libraries come from constraints-peers.txt; a test skips where they are not installed.
"""

from __future__ import annotations

import contextlib
import io
import sys
import types
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

Recording = dict[str, np.ndarray]


def run_norse(
    nir_path: str | Path, x: np.ndarray, *, dt: float = 0.001, reset: str = "value", batched: bool = False
) -> Recording:
    """norse.torch.from_nir; `reset` ("value" or "subtract") reaches CubaLIF nodes only.

    `batched` gives the library a batch axis of one, and removes it again.
    """
    import nir
    from norse.torch.functional.reset import reset_subtract, reset_value
    from norse.torch.utils.import_nir import from_nir

    graph = nir.read(nir_path)
    how = {"value": reset_value, "subtract": reset_subtract}[reset]
    net = _quietly(lambda: from_nir(graph, dt=dt, reset_method=how))
    steps = x[:, None] if batched else x
    return _run_executor(net, graph, steps, _norse_state, squeeze=batched)


def run_sinabs(nir_path: str | Path, x: np.ndarray, *, at_once: bool = False) -> Recording:
    """sinabs.from_nir with a batch of one: a step at a time, or (`at_once`) all steps in one call.

    One call gives the same, except that no recurrent edge delivers anything then.
    """
    _stand_in_for_pylab()
    import nir
    from sinabs import from_nir

    graph = nir.read(nir_path)
    net = _quietly(lambda: from_nir(graph, batch_size=1))
    if at_once:
        with torch.no_grad():
            out, _ = net(torch.as_tensor(x, dtype=torch.float32))
        return {"output": out.numpy()}
    return _run_executor(net, graph, x[:, None], _sinabs_state, squeeze=True)


def run_snntorch(nir_path: str | Path, x: np.ndarray, *, batched: bool = True) -> Recording:
    """snntorch.import_nir.import_from_nir.

    It divides the threshold by the input gain where NIR multiplies the input: its `v` and `u` are
    NIR's divided by r*dt/tau (LIF) or by w_in*dt/tau_syn (CubaLIF). A recurrent pair comes back
    as a subgraph: ``"lif1/lif1.lif.v"``.
    """
    import nir
    from snntorch.import_nir import import_from_nir

    graph = nir.read(nir_path)
    net = _quietly(lambda: import_from_nir(graph))  # rewrites `graph`
    return _run_fx(net, graph, x[:, None] if batched else x, _snntorch_state, squeeze=batched)


def run_spikingjelly(nir_path: str | Path, x: np.ndarray, *, dt: float = 1e-4, batched: bool = True) -> Recording:
    """spikingjelly.activation_based.nir_exchange.import_from_nir, in single-step mode."""
    import nir
    from spikingjelly.activation_based.nir_exchange import import_from_nir

    graph = nir.read(nir_path)
    net = _quietly(lambda: import_from_nir(graph, dt=dt))
    return _run_fx(net, graph, x[:, None] if batched else x, _spikingjelly_state, squeeze=batched)


# Two ways of execution: nirtorch's GraphExecutor (norse, sinabs) and its torch.fx modules.


def _run_executor(net: Any, graph: Any, steps: np.ndarray, neuron_state: Callable, squeeze: bool) -> Recording:
    rows: list[dict[str, Any]] = []
    state = None
    with torch.no_grad():
        for step in steps:
            out, state = net(torch.as_tensor(step, dtype=torch.float32), state)
            row: dict[str, Any] = {"output": out}
            _read_executor(row, "", net, graph, state, neuron_state)
            rows.append({name: value.detach().clone() for name, value in row.items()})
    return _stacked(rows, squeeze)


def _read_executor(row: dict, prefix: str, net: Any, graph: Any, state: Any, neuron_state: Callable) -> None:
    for name, node in graph.nodes.items():
        key = name.replace(".", "_")
        if key not in state.cache:
            continue
        row[f"{prefix}{name}.out"] = state.cache[key]
        if hasattr(node, "nodes"):
            _read_executor(row, f"{prefix}{name}/", net.get_submodule(key), node, state.state[key][0], neuron_state)
        else:
            for what, value in neuron_state(net.get_submodule(key), state.state.get(key)).items():
                row[f"{prefix}{name}.{what}"] = value


def _run_fx(net: Any, graph: Any, steps: np.ndarray, neuron_state: Callable, squeeze: bool) -> Recording:
    rows: list[dict[str, Any]] = []
    row: dict[str, Any] = {}
    names = dict(_modules_by_node("", "", graph))

    def keep(name: str) -> Callable:
        def hook(module: Any, _: Any, result: Any) -> None:
            first = result[0] if isinstance(result, tuple) else result
            row[f"{name}.out"] = first
            for what, value in neuron_state(module, result).items():
                row[f"{name}.{what}"] = value

        return hook

    modules = dict(net.named_modules())
    for key, name in names.items():
        if key in modules:
            modules[key].register_forward_hook(keep(name))
    state = None
    with torch.no_grad():
        for step in steps:
            out, state = net(torch.as_tensor(step, dtype=torch.float32), state)
            row["output"] = out
            rows.append({name: value.detach().clone() for name, value in row.items()})
            row.clear()
    return _stacked(rows, squeeze)


def _modules_by_node(module_prefix: str, prefix: str, graph: Any) -> Any:
    for name, node in graph.nodes.items():
        key = module_prefix + name.replace(".", "_")
        yield key, prefix + name
        if hasattr(node, "nodes"):
            yield from _modules_by_node(key + ".", f"{prefix}{name}/", node)


# Where each library keeps the state of a neuron.


def _norse_state(module: Any, state: Any) -> dict[str, Any]:
    if state is None:
        return {}
    if type(module).__name__ == "CubaLIF":
        current, membrane = state[0]
        return {"u": current.v, "v": membrane.v}
    return {"v": state[0].v}


def _sinabs_state(module: Any, state: Any) -> dict[str, Any]:
    return {"v": module.v_mem} if hasattr(module, "v_mem") else {}


def _snntorch_state(module: Any, result: Any) -> dict[str, Any]:
    return {what: getattr(module, name) for what, name in (("v", "mem"), ("u", "syn")) if hasattr(module, name)}


def _spikingjelly_state(module: Any, result: Any) -> dict[str, Any]:
    if type(module).__name__ != "_NIRStatefulModule":
        return {}
    return dict(zip(("v", "u"), result[1], strict=False))


def _stacked(rows: list[dict[str, Any]], squeeze: bool) -> Recording:
    result = {}
    for name in rows[0]:
        values = [row[name].numpy() for row in rows if name in row]
        wide = max((value.shape for value in values), key=len)
        array = np.stack([np.broadcast_to(value, wide) for value in values])
        result[name] = array[:, 0] if squeeze and array.ndim > 1 and array.shape[1] == 1 else array
    return result


def _quietly(build: Callable[[], Any]) -> Any:
    """snnTorch prints while it imports; nirtorch warns about its own function."""
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return build()


def _stand_in_for_pylab() -> None:
    """Sinabs imports pylab for one plot; matplotlib is too large to install for that."""
    try:
        import pylab  # noqa: F401
    except ImportError:
        sys.modules["pylab"] = types.ModuleType("pylab")
