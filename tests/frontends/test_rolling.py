"""Loops over time as Python runs them: what they become, and what is said where they cannot be rolled."""

import numpy as np
import pytest
import torch
from torch import nn

snn = pytest.importorskip("snntorch", reason="snntorch is not installed (constraints-peers.txt)")

from hsnn_compiler.diagnostics import HsnnError  # noqa: E402
from hsnn_compiler.frontends.torch import capture  # noqa: E402
from hsnn_compiler.reference.float_executor import FloatExecutor  # noqa: E402

STEPS = 6


class Loop(nn.Module):
    """``forward(self, x)`` as a function, with the layers it uses."""

    def __init__(self, forward):
        super().__init__()
        torch.manual_seed(0)
        self.function = forward
        self.fc, self.fc2, self.back = nn.Linear(4, 5), nn.Linear(5, 3), nn.Linear(5, 5)
        self.lif, self.lif2 = snn.Leaky(beta=0.5), snn.Leaky(beta=0.75)
        self.out = snn.Leaky(beta=0.5, reset_mechanism="none")

    def forward(self, x):
        return self.function(self, x)


def rolled(forward, shape=(3, 4), **options):
    return capture(Loop(forward), 2 * torch.rand(shape), **options)


def skeleton(graph):
    """Every node with what feeds it, in topological order."""
    lines = [f"T={graph.timesteps}"]
    for node in graph.topological():
        feeds = ", ".join(f"{edge.src}{'+1' if edge.delay else ''}" for edge in graph.in_edges(node.name))
        kind = f"{node.kind}({node.op.kind})" if node.kind in ("Encode", "Decode") else node.kind
        lines.append(f"{node.name} = {kind}" + (f" <- {feeds}" if feeds else ""))
    return lines


def finding(forward, shape=(3, 4), **options):
    with pytest.raises(HsnnError) as caught:
        rolled(forward, shape, **options)
    return caught.value.findings[0]


def assert_same(forward, shape=(3, 4)):
    model, x = Loop(forward), 2 * torch.rand(shape)
    found = FloatExecutor(capture(model, x), torch.float32).run(x.numpy()).output
    expected = model(x).detach().numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    assert expected.any()


# -- golden graphs ---------------------------------------------------------------------------------------


def tutorial(m, x):
    mem, mem2, spikes = m.lif.reset_mem(), m.lif2.reset_mem(), []
    for _ in range(STEPS):
        spk, mem = m.lif(m.fc(x), mem)
        spk2, mem2 = m.lif2(m.fc2(spk), mem2)
        spikes.append(spk2)
    return torch.stack(spikes)


def test_explicit_states():
    assert skeleton(rolled(tutorial)) == [
        "T=6",
        "input = Input",
        "encode = Encode(direct) <- input",
        "fc = Affine <- encode",
        "lif = LIF <- fc",
        "fc2 = Affine <- lif",
        "lif2 = LIF <- fc2",
        "output = Output <- lif2",
    ]


def test_a_recurrence_becomes_a_late_edge():
    def forward(m, x):
        spk, mem, spikes = torch.zeros(len(x), 5), m.lif.reset_mem(), []
        for _ in range(STEPS):
            spk, mem = m.lif(m.fc(x) + m.back(spk), mem)
            spikes.append(spk)
        return torch.stack(spikes).sum(0)

    assert skeleton(rolled(forward)) == [
        "T=6",
        "input = Input",
        "encode = Encode(direct) <- input",
        "fc = Affine <- encode",
        "back = Affine <- lif+1",
        "add = Add <- fc, back",
        "lif = LIF <- add",
        "sum = Decode(sum) <- lif",
        "output = Output <- sum",
    ]
    assert_same(forward)


def test_what_comes_before_a_loop_runs_once():
    def forward(m, x):
        current, mem, total = torch.relu(m.fc(x)), m.lif.reset_mem(), 0
        for _ in range(STEPS):
            spk, mem = m.lif(current, mem)
            total = total + spk
        return m.fc2(total / STEPS)

    assert skeleton(rolled(forward)) == [
        "T=6",
        "input = Input",
        "fc = Affine <- input",
        "relu = ReLU <- fc",
        "encode = Encode(direct) <- relu",
        "lif = LIF <- encode",
        "decode = Decode(sum) <- lif",
        "div = Scale <- decode",
        "fc2 = Affine <- div",
        "output = Output <- fc2",
    ]
    assert_same(forward)


@pytest.mark.parametrize("steps", ["x[t]", "iter", "unbind"])
def test_a_loop_over_the_inputs_own_steps(steps):
    def forward(m, x):
        parts = {"x[t]": (x[t] for t in range(len(x))), "iter": x, "unbind": x.unbind()}[steps]
        mem, spikes = m.lif.reset_mem(), []
        for part in parts:
            spk, mem = m.lif(m.fc(part), mem)
            spikes.append(spk)
        return torch.stack(spikes)

    expected = ["T=6", "input = Input", "fc = Affine <- input", "lif = LIF <- fc", "output = Output <- lif"]
    assert skeleton(rolled(forward, (STEPS, 3, 4), axes="TB")) == expected


def test_one_loop_after_the_other():
    def forward(m, x):
        mem, mem2 = m.lif.reset_mem(), m.lif2.reset_mem()
        first, second = [], []
        for part in x:
            spk, mem = m.lif(m.fc(part), mem)
            first.append(spk)
        for spk in first:
            spk2, mem2 = m.lif2(m.fc2(spk), mem2)
            second.append(spk2)
        return torch.stack(second)

    assert skeleton(rolled(forward, (STEPS, 3, 4), axes="TB")) == [
        "T=6",
        "input = Input",
        "fc = Affine <- input",
        "lif = LIF <- fc",
        "fc2 = Affine <- lif",
        "lif2 = LIF <- fc2",
        "output = Output <- lif2",
    ]


# -- tensors that are filled -----------------------------------------------------------------------------


def looped(collect, finish):
    def forward(m, x):
        mem, kept = m.lif.reset_mem(), {}
        for step in range(STEPS):
            spk, mem = m.lif(m.fc(x), mem)
            collect(kept, step, spk, len(x))
        return finish(kept)

    return forward


def add_in_place(kept, step, spk, batch):
    kept.setdefault("sum", torch.zeros(batch, 5))
    kept["sum"] += spk


def write(kept, step, spk, batch):
    kept.setdefault("all", torch.zeros(STEPS, batch, 5))
    kept["all"][step] = spk


def write_second_axis(kept, step, spk, batch):
    kept.setdefault("all", torch.empty(batch, STEPS, 5))
    kept["all"][:, step] = spk


def test_a_sum_in_place():
    assert_same(looped(add_in_place, lambda kept: kept["sum"]))


def test_a_sum_in_place_that_does_not_start_at_zero():
    def collect(kept, step, spk, batch):
        kept.setdefault("sum", torch.full((batch, 5), 2.0))
        kept["sum"] += spk

    assert_same(looped(collect, lambda kept: kept["sum"]))


@pytest.mark.parametrize("how", ["ones", "no bias"])
def test_a_recurrence_that_starts_from_something_else(how):
    """Zeros through `back` give its bias: neither ones nor nothing in its place is what the graph computes."""

    def forward(m, x):
        spk, mem, spikes = torch.ones(len(x), 5), m.lif.reset_mem(), []
        for step in range(STEPS):
            late = spk if how == "ones" else m.back(spk) if step else 0
            spk, mem = m.lif(m.fc(x) + late, mem)
            spikes.append(spk)
        return torch.stack(spikes)

    found = finding(forward)
    assert found.code == "E0413"
    assert "the first step gets a constant" in found.message


@pytest.mark.parametrize("collect", [write, write_second_axis])
def test_a_record_that_is_filled(collect):
    axis = 0 if collect is write else 1
    assert_same(looped(collect, lambda kept: kept["all"].sum(axis)))


def test_a_record_that_is_not_filled():
    def collect(kept, step, spk, batch):
        write(kept, step, spk, batch) if step else None

    found = finding(looped(collect, lambda kept: kept["all"]))
    assert found.code == "E0405"
    assert "torch.stack" in found.suggestion


def test_a_record_that_is_looked_at_too_early():
    def collect(kept, step, spk, batch):
        write(kept, step, spk, batch)
        if step == 2:
            kept["early"] = kept["all"].mean(0)

    assert finding(looped(collect, lambda kept: kept["early"])).code == "E0405"


@pytest.mark.parametrize("share", [lambda x: x[:1], lambda x: x.detach(), lambda x: x.numpy()])
def test_memory_with_two_names_is_not_filled(share):
    base = torch.zeros(STEPS, 3, 5)

    def forward(m, x):
        kept = {"all": torch.zeros(STEPS, len(x), 5)}
        kept["other"] = share(kept["all"])
        if isinstance(kept["other"], np.ndarray):
            kept["all"] = torch.from_numpy(kept["other"])
        mem = m.lif.reset_mem()
        for step in range(STEPS):
            spk, mem = m.lif(m.fc(x), mem)
            kept["all"][step] = spk
        return kept["all"]

    assert base.sum() == 0
    assert finding(forward).code == "E0405"


# -- what is refused -------------------------------------------------------------------------------------


def test_a_layer_that_only_one_step_has():
    def forward(m, x):
        mem, spikes = m.lif.reset_mem(), []
        for step in range(STEPS):
            current = m.fc(x)
            if step == 3:
                current = current * 2
            spk, mem = m.lif(current, mem)
            spikes.append(spk)
        return torch.stack(spikes)

    found = finding(forward)
    assert found.code == "E0413"
    assert "step 3 computes mul" in found.message
    assert found.source.line > 0


def test_a_layer_that_only_the_first_step_has():
    def forward(m, x):
        mem, spikes = m.lif.reset_mem(), []
        for step in range(STEPS):
            current = m.fc(x)
            spk, mem = m.lif(torch.relu(current) if step == 0 else current, mem)
            spikes.append(spk)
        return torch.stack(spikes)

    found = finding(forward)
    assert found.code == "E0413"
    assert "relu" in found.message
    assert "first step" in found.message or "step 0" in found.message


def test_a_module_of_its_own_for_every_step():
    def forward(m, x):
        mem, spikes = m.lif.reset_mem(), []
        for step in range(2):
            spk, mem = m.lif((m.fc if step else m.again)(x), mem)
            spikes.append(spk)
        return torch.stack(spikes)

    model = Loop(forward)
    model.again = nn.Linear(4, 5)
    with pytest.raises(HsnnError, match="E0413"):
        capture(model, torch.rand(3, 4))


def test_the_steps_of_the_input_in_another_order():
    def forward(m, x):
        mem, spikes = m.lif.reset_mem(), []
        for step in range(STEPS):
            spk, mem = m.lif(m.fc(x[STEPS - 1 - step]), mem)
            spikes.append(spk)
        return torch.stack(spikes)

    found = finding(forward, (STEPS, 3, 4), axes="TB")
    assert found.code == "E0413"
    assert "looks at step" in found.message


def test_what_is_two_steps_old():
    def forward(m, x):
        mem, spikes = m.lif.reset_mem(), [torch.zeros(len(x), 5)] * 2
        for _ in range(STEPS):
            spk, mem = m.lif(m.fc(x) + m.back(spikes[-2]), mem)
            spikes.append(spk)
        return torch.stack(spikes[2:])

    found = finding(forward)
    assert found.code == "E0413"
    assert "step 1 computes lif (LIF), steps 2 to 5" in found.message


def test_one_step_by_itself():
    def forward(m, x):
        mem, spikes = m.lif.reset_mem(), []
        for _ in range(STEPS):
            spk, mem = m.lif(m.fc(x), mem)
            spikes.append(spk)
        return spikes[2]

    found = finding(forward)
    assert found.code == "E0413"
    assert "step 2 alone" in found.message


def test_loops_of_different_lengths():
    def forward(m, x):
        mem, mem2, total = m.lif.reset_mem(), m.lif2.reset_mem(), 0
        for _ in range(STEPS):
            spk, mem = m.lif(m.fc(x), mem)
            total = total + spk
        out = 0
        for _ in range(STEPS + 2):
            spk, mem2 = m.lif2(m.fc2(total), mem2)
            out = out + spk
        return out

    found = finding(forward)
    assert found.code == "E0413"
    assert "8 steps here, 6 elsewhere" in found.message


def test_a_state_of_another_neuron():
    def forward(m, x):
        mem, spikes = m.lif.reset_mem(), []
        for _ in range(STEPS):
            spk, mem = m.lif(m.fc(x), mem)
            spk, _ = m.lif2(spk, mem)
            spikes.append(spk)
        return torch.stack(spikes)

    found = finding(forward)
    assert found.code == "E0407"
    assert "state v" in found.message


def test_a_state_that_starts_over():
    def forward(m, x):
        spikes = []
        for _ in range(STEPS):
            spk, _ = m.lif(m.fc(x), torch.zeros(len(x), 5))
            spikes.append(spk)
        return torch.stack(spikes)

    found = finding(forward)
    assert found.code == "E0407"
    assert "after its first step" in found.message


def test_computing_with_a_state():
    def forward(m, x):
        mem, spikes = m.lif.reset_mem(), []
        for _ in range(STEPS):
            _, mem = m.lif(m.fc(x), mem)
            spikes.append(m.fc2(mem))
        return torch.stack(spikes)

    found = finding(forward)
    assert found.code == "E0412"
    assert "lif" in found.message


def test_states_alone_as_results():
    def forward(m, x):
        mem, states = m.lif.reset_mem(), []
        for _ in range(STEPS):
            _, mem = m.lif(m.fc(x), mem)
            states.append(mem)
        return torch.stack(states)

    assert finding(forward).code == "E0412"


def test_states_among_the_results_are_left_out_and_that_is_said():
    def forward(m, x):
        mem, spikes, states = m.lif.reset_mem(), [], []
        for _ in range(STEPS):
            spk, mem = m.lif(m.fc(x), mem)
            spikes.append(spk)
            states.append(mem)
        return torch.stack(spikes), torch.stack(states)

    said = []
    graph = rolled(forward, findings=said)
    assert [node.name for node in graph.of_kind("Output")] == ["output"]
    assert [note.code for note in said] == ["W0466"]
    assert "state v of lif" in said[0].message


def test_the_potential_of_an_integrator_is_its_output():
    def forward(m, x):
        mem, potentials = m.out.reset_mem(), []
        for _ in range(STEPS):
            _, mem = m.out(m.fc(x), mem)
            potentials.append(mem)
        return torch.stack(potentials).mean(0)

    assert_same(forward)


def test_one_step_per_call_needs_a_number_of_steps():
    model = nn.Sequential(nn.Linear(4, 5), snn.Leaky(beta=0.5, init_hidden=True))
    with pytest.raises(HsnnError, match="E0414"):
        capture(model, torch.rand(3, 4))
    assert capture(model, torch.rand(3, 4), timesteps=9).timesteps == 9
    assert capture(model, torch.rand(7, 3, 4), axes="TB").timesteps == 7


@pytest.mark.parametrize("change", [torch.Tensor.detach, torch.clone])
def test_states_that_are_detached_on_their_way(change):
    def forward(m, x):
        mem, spikes = m.lif.reset_mem(), []
        for _ in range(STEPS):
            spk, mem = m.lif(m.fc(x), change(mem))
            spikes.append(spk)
        return torch.stack(spikes)

    assert skeleton(rolled(forward))[-2:] == ["lif = LIF <- fc", "output = Output <- lif"]


def test_a_neuron_that_is_reset_on_the_way():
    def forward(m, x):
        spikes = []
        for step in range(STEPS):
            if step == 4:
                m.hidden.reset_mem()
            spikes.append(m.hidden(m.fc(x)))
        return torch.stack(spikes)

    model = Loop(forward)
    model.hidden = snn.Leaky(beta=0.9, init_hidden=True)
    with pytest.raises(HsnnError) as caught:
        capture(model, torch.rand(3, 4))
    assert caught.value.findings[0].code == "E0407"
    assert "between two steps" in caught.value.findings[0].message


def test_the_state_of_a_neuron_that_keeps_it_is_known():
    def forward(m, x):
        spikes = []
        for _ in range(STEPS):
            spikes.append(m.hidden(m.fc(x)) + m.hidden.mem)
        return torch.stack(spikes)

    model = Loop(forward)
    model.hidden = snn.Leaky(beta=0.9, init_hidden=True)
    with pytest.raises(HsnnError, match="E0412"):
        capture(model, torch.rand(3, 4))
