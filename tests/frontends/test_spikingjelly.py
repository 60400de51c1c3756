"""SpikingJelly's neurons and layers, captured: every spike as the library has it."""

import pytest
import torch

pytest.importorskip("spikingjelly", reason="spikingjelly is not installed (constraints-peers.txt)")

from dialect_nets import SHAPES, AtOnce, OverTime, compare, series
from dialect_rows import row, up_to_date
from spikingjelly.activation_based import functional, neuron, surrogate

from hsnn_compiler.diagnostics import HsnnError
from hsnn_compiler.frontends.torch import capture
from hsnn_compiler.reference.float_executor import FloatExecutor

RESETS = {"v_reset=0.0": 0.0, "v_reset=-0.3": -0.3, "v_reset=None": None}


def number(low, high):
    return float(low + (high - low) * torch.rand(1))


def learnt(module, **parameters):
    """A module whose learnable parameters are no longer what they began as."""
    for name, value in parameters.items():
        getattr(module, name).data.fill_(value)
    return module


def cases():
    """Neuron, options, and what makes one for a shape."""
    for name, v_reset in RESETS.items():
        kind = {"v_reset": v_reset}
        yield "IFNode", name, lambda shape, k=kind: neuron.IFNode(number(0.5, 2), **k)
        yield "SimpleIFNode", name, lambda shape, k=kind: neuron.SimpleIFNode(number(0.5, 2), **k)
        yield (
            "CUBALIFNode",
            name,
            lambda shape, k=kind: neuron.CUBALIFNode(number(0.3, 0.8), number(0.3, 0.9), 1.5, **k),
        )
        for decay_input in (True, False):
            options = f"{name}, decay_input={decay_input}"
            both = kind | {"decay_input": decay_input}
            yield "LIFNode", options, lambda shape, b=both: neuron.LIFNode(number(1.2, 9), v_threshold=0.6, **b)
            if v_reset is not None:
                yield "SimpleLIFNode", options, lambda s, b=both: neuron.SimpleLIFNode(number(1.2, 9), **b)
            yield (
                "ParametricLIFNode",
                options,
                lambda s, b=both: learnt(neuron.ParametricLIFNode(v_threshold=0.6, **b), w=number(-2, 1)),
            )
            for scale in (True, False):
                yield (
                    "KLIFNode",
                    f"{options}, scale_reset={scale}",
                    lambda shape, b=both, scale=scale: learnt(
                        neuron.KLIFNode(scale, number(1.2, 9), v_threshold=0.6, **b), k=number(0.5, 1.1)
                    ),
                )
        if v_reset is not None:
            yield (
                "ActivationAwareIFNode",
                f"{name}, per channel",
                lambda shape, k=kind: neuron.ActivationAwareIFNode(
                    torch.rand(shape[0]) + 0.5, torch.rand(shape[0]) / 4, channel_dim=1, **k
                ),
            )
    yield "ActivationAwareIFNode", "v_reset=None", lambda s: neuron.ActivationAwareIFNode(0.7)
    yield "HalfThresholdIFNode", "", lambda shape: neuron.HalfThresholdIFNode(number(0.5, 2))
    yield (
        "LIFNode",
        "detach_reset, ATan, store_v_seq",
        lambda shape: neuron.LIFNode(detach_reset=True, surrogate_function=surrogate.ATan(), store_v_seq=True),
    )
    yield "OTTTLIFNode", "", lambda shape: neuron.OTTTLIFNode(number(1.2, 9))
    yield "SLTTLIFNode", "", lambda shape: neuron.SLTTLIFNode(number(1.2, 9))


CASES = list(cases())


@pytest.mark.parametrize(("name", "options", "make"), CASES, ids=[f"{n}-{o}" for n, o, _ in CASES])
def test_neuron(name, options, make):
    """In single-step mode, in a loop, with its potential; and in multi-step mode."""
    wrong = []
    for seed, shape in enumerate(SHAPES):
        torch.manual_seed(seed)
        mod = make(shape).eval()
        x = series(shape, seed, 1.5)
        found = compare(OverTime(mod, lambda out, mod=mod: (out, (), mod.v)), x)
        assert found.total > 20
        wrong.append(found.different or found.error > 1e-9)
        if "TT" not in name:
            functional.reset_net(mod)
            functional.set_step_mode(mod, "m")
            wrong.append(compare(AtOnce(mod), x).different)
    row("spikingjelly", name, options, not any(wrong))
    assert not any(wrong)


@pytest.mark.parametrize("decode", ["mean-mem", "last_mem"])
@pytest.mark.parametrize("name", ["NonSpikingIFNode", "NonSpikingLIFNode"])
def test_integrator(name, decode):
    mod = getattr(neuron, name)(decode=decode)
    x = series((4,), 5)
    graph = capture(mod, x[:5], axes="TB")
    graph.timesteps = len(x)
    found = torch.from_numpy(FloatExecutor(graph, torch.float64).run(x.transpose(0, 1).numpy()).output)
    equal = torch.allclose(found, mod(x), rtol=1e-12)
    row("spikingjelly", name, f"decode={decode}", equal)
    assert equal


REFUSED = {
    ("QIFNode", ""): (neuron.QIFNode, "its own square"),
    ("EIFNode", ""): (neuron.EIFNode, "exponential"),
    ("IzhikevichNode", ""): (neuron.IzhikevichNode, "recovery variable"),
    ("GatedLIFNode", ""): (lambda: neuron.GatedLIFNode(T=6), "gates"),
    ("ComplementaryLIFNode", ""): (neuron.ComplementaryLIFNode, "second state"),
    ("LIAFNode", ""): (lambda: neuron.LIAFNode(torch.relu, True), "activation of its potential"),
    ("TernaryIFNode", ""): (neuron.TernaryIFNode, "-1"),
    ("ILIFNode", ""): (neuron.ILIFNode, "rounds"),
    ("PSN", ""): (lambda: neuron.PSN(T=6), "depends on all steps"),
    ("KLIFNode", "k below 0"): (lambda: learnt(neuron.KLIFNode(), k=-1.0), "k = -1"),
    ("ActivationAwareIFNode", "v_reset=None, v_offset"): (lambda: neuron.ActivationAwareIFNode(1.0, 0.2), "subtracts"),
    ("NonSpikingLIFNode", "decode=max-mem"): (lambda: neuron.NonSpikingLIFNode(decode="max-mem"), "decode='max-mem'"),
    ("IFNode", "a surrogate function with spiking=False"): (
        lambda: neuron.IFNode(surrogate_function=surrogate.ATan(spiking=False)),
        "does not put out 0 and 1",
    ),
}


@pytest.mark.parametrize(("name", "options"), REFUSED)
def test_refused(name, options):
    make, why = REFUSED[name, options]
    mod = make()
    if "m" in mod.supported_step_mode():
        mod.step_mode = "m"
    with pytest.raises(HsnnError) as error:
        capture(mod, torch.rand(6, 3, 5), axes="TB")
    (finding,) = error.value.findings
    assert finding.code == "E0401"
    assert why in finding.message
    row("spikingjelly", name, options, "refused", finding.message.partition(": ")[2] if not options else "")


def test_table():
    integrators = [
        (n, f"decode={d}") for n in ("NonSpikingIFNode", "NonSpikingLIFNode") for d in ("mean-mem", "last_mem")
    ]
    up_to_date("spikingjelly", [(n, o) for n, o, _ in CASES] + integrators + list(REFUSED))
