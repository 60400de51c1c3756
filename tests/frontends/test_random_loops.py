"""Property: random loops over time, written in Python, are captured as what PyTorch computes."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

snn = pytest.importorskip("snntorch", reason="snntorch is not installed (constraints-peers.txt)")

from hsnn_compiler.frontends.torch import capture  # noqa: E402
from hsnn_compiler.reference.float_executor import FloatExecutor  # noqa: E402

WIDTH, STEPS = 6, 5
NEURONS = ("leaky", "zero", "integrator", "synaptic", "hidden", "recurrent")
LAYERS = ("none", "linear", "twice", "scale", "skip", "feedback", "bias", "double_back", "before", "relu", "mean")
RESULTS = (
    "stack",
    "stack1",
    "sum",
    "mean",
    "last",
    "acc",
    "acc_zeros",
    "iadd",
    "record",
    "record1",
    "item",
    "sum_list",
)
INPUTS = ("constant", "outside", "x[t]", "iter", "unbind", "x[:, t]", "select")


def step(x):
    return (x > 0).to(x.dtype)


def neuron(kind):
    beta = float(0.5 + 0.4 * torch.rand(1))
    return {
        "leaky": lambda: snn.Leaky(beta=beta, spike_grad=step),
        "zero": lambda: snn.Leaky(beta=beta, spike_grad=step, reset_mechanism="zero"),
        "integrator": lambda: snn.Leaky(beta=beta, spike_grad=step, reset_mechanism="none"),
        "synaptic": lambda: snn.Synaptic(alpha=0.5, beta=beta, spike_grad=step),
        "hidden": lambda: snn.Leaky(beta=beta, spike_grad=step, init_hidden=True),
        "recurrent": lambda: snn.RLeaky(beta=beta, spike_grad=step, linear_features=WIDTH),
    }[kind]()


class Program(nn.Module):
    """Layers, each a computation before a neuron, in a loop; what is collected is of one layer each."""

    def __init__(self, layers, results, source, given):
        super().__init__()
        self.plan, self.results, self.source, self.given = layers, results, source, given
        self.neurons = nn.ModuleList([neuron(kind) for _, kind in layers])
        self.linear = nn.ModuleList([nn.Linear(WIDTH, WIDTH) for _ in layers])
        self.back = nn.ModuleList([nn.Linear(WIDTH, WIDTH, bias=False) for _ in layers])
        self.first = nn.Linear(WIDTH, WIDTH)

    def steps(self, x):
        constant = self.first(x) if self.source == "outside" else x
        return {
            "constant": lambda: [x] * STEPS,
            "outside": lambda: [constant] * STEPS,
            "x[t]": lambda: (x[t] for t in range(STEPS)),
            "iter": lambda: x,
            "unbind": lambda: x.unbind(0),
            "x[:, t]": lambda: (x[:, t] for t in range(STEPS)),
            "select": lambda: (x.select(0, t) for t in range(STEPS)),
        }[self.source]()

    def before(self, how, k, x, skip, spikes):
        return {
            "none": lambda: x,
            "linear": lambda: self.linear[k](x),
            "twice": lambda: self.linear[k](self.back[k](x)),
            "scale": lambda: self.linear[k](x) * 1.5,
            "skip": lambda: self.linear[k](x) + skip,
            "feedback": lambda: self.linear[k](x) + self.back[k](spikes[k]),
            "double_back": lambda: self.linear[k](x) + self.back[k](spikes[k]) + spikes[-1],
            "before": lambda: spikes[k] + self.linear[k](x),
            "bias": lambda: self.linear[k](x) + 0.25,
            "relu": lambda: torch.relu(self.linear[k](x)),
            "mean": lambda: (self.linear[k](x) + skip) / 2,
        }[how]()

    def forward(self, x):
        batch = x.shape[1 if self.source in ("x[t]", "iter", "unbind", "select") else 0]
        zeros = lambda *lead: torch.zeros(*lead, batch, WIDTH, dtype=x.dtype)  # noqa: E731
        states = [()] * len(self.plan)
        if self.given:
            states = [self.start(k, zeros) for k in range(len(self.plan))]
        spikes = [zeros() for _ in self.plan]
        lists = [[] for _ in self.plan]
        sums = [0 if how == "acc" else zeros() for how in self.results]
        records = [zeros(STEPS) if how == "record" else zeros(STEPS).transpose(0, 1).clone() for how in self.results]
        for t, x_t in enumerate(self.steps(x)):
            skip = y = x_t
            for k, (how, kind) in enumerate(self.plan):
                result = self.neurons[k](self.before(how, k, y, skip, spikes), *states[k])
                skip = y
                y = self.output(k, kind, result, states)
                lists[k].append(y)
            for k in range(len(self.plan)):
                spikes[k] = lists[k][-1]
            for k, how in enumerate(self.results):
                if how in ("acc", "acc_zeros"):
                    sums[k] = sums[k] + spikes[k]
                elif how == "iadd":
                    sums[k] += spikes[k]
                elif how == "record":
                    records[k][t] = spikes[k]
                elif how == "record1":
                    records[k][:, t] = spikes[k]
        return tuple(self.collected(how, lists[k], sums[k], records[k]) for k, how in enumerate(self.results) if how)

    def start(self, k, zeros):
        kind = self.plan[k][1]
        if kind == "hidden":
            return ()
        return {"synaptic": 2, "recurrent": 2}.get(kind, 1) * (zeros(),)

    def output(self, k, kind, result, states):
        if kind == "hidden":
            return result
        states[k] = result if kind == "recurrent" else result[1:]
        return result[1] if kind == "integrator" else result[0]

    def collected(self, how, results, total, record):
        return {
            "stack": lambda: torch.stack(results),
            "stack1": lambda: torch.stack(results, dim=1),
            "sum": lambda: torch.stack(results).sum(0),
            "mean": lambda: torch.stack(results, 1).mean(1),
            "last": lambda: results[-1],
            "item": lambda: torch.stack(results)[-1],
            "sum_list": lambda: sum(results),
            "record": lambda: record,
            "record1": lambda: record,
        }.get(how, lambda: total)()


@st.composite
def programs(draw):
    layers = draw(st.lists(st.tuples(st.sampled_from(LAYERS), st.sampled_from(NEURONS)), min_size=1, max_size=3))
    results = draw(
        st.lists(st.sampled_from(("", *RESULTS)), min_size=len(layers), max_size=len(layers)).filter(lambda r: any(r))
    )
    return layers, results, draw(st.sampled_from(INPUTS)), draw(st.booleans()), draw(st.integers(0, 1000))


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(programs())
def test_captured_loops_compute_the_same(program):
    layers, results, source, given_states, seed = program
    torch.manual_seed(seed)
    model = Program(layers, results, source, given_states).double()
    for part in model.modules():
        if isinstance(part, nn.Linear):
            part.weight.data = (part.weight * 3).float().double()
    order = {"constant": "B", "outside": "B", "x[:, t]": "BT"}.get(source, "TB")
    shape = {"B": (4, WIDTH), "BT": (4, STEPS, WIDTH), "TB": (STEPS, 4, WIDTH)}[order]
    x = torch.randn(shape, dtype=torch.float64)
    graph = capture(model, x, axes=order)
    assert graph.timesteps == STEPS
    with torch.no_grad():
        expected = model(x)
    fed = x.transpose(0, 1) if order == "TB" else x
    found = FloatExecutor(graph, torch.float64).run(fed.contiguous().numpy()).outputs.values()
    for how, a, b in zip([how for how in results if how], found, expected, strict=True):
        wanted = b.transpose(0, 1).numpy() if how in ("stack", "record") else b.numpy()
        np.testing.assert_allclose(a, wanted, rtol=1e-9, atol=1e-9, err_msg=how)
