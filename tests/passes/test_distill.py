"""Block-wise distillation: the loss against its formula in numpy, what is trained and what is not, refusals."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from value_graphs import Net

from hsnn_compiler.diagnostics import HsnnError
from hsnn_compiler.driver import compile as compile_model
from hsnn_compiler.finetune import Finetune
from hsnn_compiler.ir import Graph
from hsnn_compiler.ir.ops import Add, ReLU
from hsnn_compiler.ir.text import to_text
from hsnn_compiler.passes.base import PassContext, PassResult
from hsnn_compiler.passes.distill import Distill
from hsnn_compiler.passes.pipeline import DEFAULT_PIPELINE, parse_pipeline, run_pipeline
from hsnn_compiler.reference.float_executor import FloatExecutor
from hsnn_compiler.training.hybrids import EPSILON, tail

SAMPLES = 300
CONVERT = "partition,convert-activations,calibrate-thresholds{method=max,correct=none}"


def network() -> Graph:
    """Two stages and a readout, and a shortcut inside the first."""
    net = Net((2, 6, 6), seed=3).conv("c0", 6, padding=1).add("r0", ReLU()).conv("c1", 6, padding=1)
    net.add("sum", Add(), "c1", "r0").add("r1", ReLU()).conv("c2", 10, stride=2).add("r2", ReLU())
    return net.flatten().linear("fc", 4).done()


@pytest.fixture(scope="module")
def x() -> np.ndarray:
    """Samples that differ in more than noise: a few patterns, mixed."""
    rng = np.random.default_rng(1)
    patterns = rng.normal(size=(8, 2, 6, 6))
    mixed = np.einsum("nk,kchw->nchw", rng.normal(size=(SAMPLES + 200, 8)), patterns) / 2
    return (mixed + 0.2 * rng.normal(size=mixed.shape)).astype(np.float32)


def context(x: np.ndarray, *, labels: bool = True, **more: Any) -> PassContext:
    wanted = FloatExecutor(network()).run(x[:SAMPLES]).predictions()
    how = Finetune((x[:SAMPLES], wanted if labels else None), **more)
    return PassContext(timesteps=2, calibration=x[:100], finetune=how)


def converted(given: PassContext, text: str = CONVERT) -> Graph:
    return list(run_pipeline(network(), parse_pipeline(text), given))[-1].result.graph


def trained(given: PassContext, options: str = "") -> PassResult:
    return list(run_pipeline(network(), parse_pipeline(f"{CONVERT},distill{options}"), given))[-1].result


def agreement(graph: Graph, x: np.ndarray) -> float:
    """On samples that nothing was fitted to."""
    fresh = x[SAMPLES:]
    return FloatExecutor(graph).run(fresh).accuracy(FloatExecutor(network()).run(fresh).predictions())


def test_nothing_happens_without_data(x: np.ndarray) -> None:
    graph = converted(PassContext(timesteps=2, calibration=x[:100]))
    result = Distill().run(graph, PassContext())
    assert result.graph is graph
    assert not result.modified
    assert not result.notes
    names = [item.name for item in parse_pipeline(DEFAULT_PIPELINE)]
    assert names.index("distill") == names.index("calibrate-thresholds") + 1


@pytest.mark.parametrize("engine", ["bptt", "rate"])
def test_training_wins_back_what_conversion_lost(x: np.ndarray, engine: str) -> None:
    given = context(x)
    before = converted(given)
    text = to_text(before)
    result = trained(given, f"{{engine={engine},epochs=8}}")
    assert to_text(before) == text
    start, end = agreement(before, x), agreement(result.graph, x)
    assert start < 0.75
    assert end > start + 0.12
    table = result.tables[0].to_dicts()["rows"]
    first, best = table[0], max(table, key=lambda row: row["held-out accuracy %"])
    for block in ("r1", "r2"):
        assert best[f"cosine {block}"] > first[f"cosine {block}"]
    # Weights and biases alone have changed, and exactly those that the result says.
    assert {key.split(":")[1] for key in result.trained} == {"weight", "bias"}
    assert {key.split(":")[0] for key in result.trained} == {"c0", "c1", "c2", "fc"}
    for node in result.graph:
        result.graph.replace(node.with_(op=before[node.name].op) if node.is_synapse else node)
    assert to_text(result.graph) == text


def test_the_cosine_is_that_of_rates_and_activations(x: np.ndarray) -> None:
    given = context(x)
    result = trained(given, "{epochs=1,held_out=0.25}")
    logged = result.tables[0].to_dicts()["rows"][0]
    order = np.random.default_rng(0).permutation(SAMPLES)
    held = x[:SAMPLES][np.sort(order[:75])]
    before = converted(given)
    for block in ("r1", "r2"):
        spikes = FloatExecutor(before).run(held, [(block, "s")]).trace[block, "s"]
        wanted = FloatExecutor(network()).run(held, [(block, "s")]).trace[block, "s"]
        found = mean_cosine(spikes.mean(1) * before[block].op.v_threshold, wanted)
        assert logged[f"cosine {block}"] == pytest.approx(found, abs=1e-5)


def mean_cosine(rate: np.ndarray, wanted: np.ndarray) -> float:
    """A silent sample counts as 0."""
    rate, wanted = rate.reshape(len(rate), -1), wanted.reshape(len(rate), -1)
    norms = np.linalg.norm(rate, axis=1) * np.linalg.norm(wanted, axis=1)
    return float(((rate * wanted).sum(1) / np.maximum(norms, 1e-12)).mean())


def softmax(z: np.ndarray) -> np.ndarray:
    powers = np.exp(z - z.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


@pytest.mark.parametrize(("branches", "ends"), [("all", ["r1", "r2"]), ("last", ["r2"]), ("none", [])])
@pytest.mark.parametrize(("labels", "similarity"), [(True, 0.0), (False, 0.0), (True, 0.7)])
def test_the_loss_is_the_formula(
    x: np.ndarray, branches: str, ends: list[str], labels: bool, similarity: float
) -> None:
    """One batch holds everything, so that the loss of the first epoch is that before any change."""
    given = context(x, labels=labels)
    options = f"epochs=1,batch={SAMPLES},alpha=0.3,branches={branches},similarity={similarity}"
    result = trained(given, f"{{{options}}}")
    before, teacher = converted(given), network()
    rows = np.sort(np.random.default_rng(0).permutation(SAMPLES)[30:])
    batch = x[:SAMPLES][rows]
    y = None if not labels else FloatExecutor(teacher).run(batch).predictions()
    blocks = [("r1", "s"), ("r2", "s")]
    analog = FloatExecutor(teacher).run(batch, blocks)
    spiking = FloatExecutor(before).run(batch, blocks)
    p = softmax(analog.output)

    def part(z: np.ndarray) -> float:
        q = softmax(z)
        divergence = (p * np.log(p / q)).sum(1).mean()
        return divergence if y is None else 0.7 * -np.log(q[np.arange(len(q)), y]).mean() + 0.3 * divergence

    total = part(spiking.output)
    for end in ends:
        rate = spiking.trace[end, "s"].mean(1) * before[end].op.v_threshold
        values = analog.trace[end, "s"][:256]  # as many as the projection begins with
        axes = (0, 2, 3)
        mean, spread = values.mean(axes, keepdims=True), np.sqrt(values.var(axes, keepdims=True) + EPSILON)
        normed = (rate - rate.mean(axes, keepdims=True)) / np.sqrt(rate.var(axes, keepdims=True) + EPSILON)
        given_on = torch.from_numpy((spread * normed + mean).astype(np.float32))
        z = FloatExecutor(tail(teacher, end)).evaluate({end: given_on})["y"]
        total += part(z.numpy()) / len(ends)
    for block in blocks:  # also those that no hybrid ends at
        rate = spiking.trace[block].mean(1) * before[block[0]].op.v_threshold
        total += similarity * (1 - mean_cosine(rate, analog.trace[block])) / len(blocks)
    assert result.tables[0].to_dicts()["rows"][1]["loss"] == pytest.approx(total, rel=1e-3)


def test_the_same_data_gives_the_same_network_and_it_can_be_had_again(x: np.ndarray) -> None:
    given = context(x)
    first, second = (trained(given, "{epochs=2}") for _ in range(2))
    assert first.trained.keys() == second.trained.keys()
    assert all((first.trained[key] == second.trained[key]).all() for key in first.trained)
    again = trained(context(x, trained={"distill": first.trained}))
    assert to_text(again.graph) == to_text(first.graph)
    assert "trained" in again.notes[0]
    for node in first.graph.of_kind("Conv2d", "Affine"):
        np.testing.assert_array_equal(node.op.weight, again.graph[node.name].op.weight)


def test_an_interrupted_training_goes_on_to_the_same_network(x: np.ndarray, tmp_path: Path) -> None:
    def stop(what: str, done: int, total: int) -> None:
        if what.startswith("distillation | ") and done > 0.6 * total:
            raise KeyboardInterrupt

    whole = trained(context(x), "{epochs=4}")
    kept = context(x, checkpoints=tmp_path)
    with pytest.raises(KeyboardInterrupt):
        trained(dataclasses.replace(kept, progress=stop), "{epochs=4}")
    assert [path.name for path in tmp_path.iterdir()] == ["distill.pt"]
    resumed = trained(kept, "{epochs=4}")
    assert whole.trained.keys() == resumed.trained.keys()
    assert all((whole.trained[key] == resumed.trained[key]).all() for key in whole.trained)


def test_it_is_never_worse_than_the_start(x: np.ndarray) -> None:
    given = dataclasses.replace(context(x), timesteps=32)
    before, result = converted(given), trained(given, "{epochs=1,optimiser=sgd,rate=1000}")
    assert agreement(before, x) > 0.95
    assert not result.trained
    assert not result.modified
    assert to_text(result.graph) == to_text(before)
    assert "none better than the start" in result.notes[1]


def test_first_spikes_can_be_trained(x: np.ndarray) -> None:
    given = PassContext(timesteps=3, calibration=x[:100], coding="ttfs", finetune=context(x).finetune)
    before, result = converted(given), trained(given, "{epochs=3}")
    assert before["r1"].kind == "FirstSpike"
    assert agreement(result.graph, x) > agreement(before, x)


def test_blocks_may_be_named_and_data_without_labels_will_do(x: np.ndarray) -> None:
    result = trained(context(x, labels=False, epochs=1), "{blocks=r1 + r0}")
    assert "2 blocks r0, r1, 2 hybrids" in result.notes[0]
    assert "alpha 1," in result.notes[0]
    assert result.tables[0].columns[-2:] == ("cosine r0", "cosine r1")
    assert len(result.tables[0].rows) == 2


def test_what_is_wrong_is_refused_together(x: np.ndarray) -> None:
    with pytest.raises(HsnnError) as refused:
        trained(context(x), "{blocks=sum,branches=some,engine=magic,surrogate=none,alpha=2,held_out=1,epochs=-1}")
    codes = [finding.code for finding in refused.value.findings]
    assert sorted(codes) == ["E0212"] * 6 + ["E0565"]


def test_a_network_without_activations_is_left_alone(x: np.ndarray) -> None:
    graph = Net((3,), 4).encode().linear("fc", 2).neuron("n").done("mean")
    result = Distill().run(graph, PassContext(finetune=Finetune((np.zeros((4, 3), np.float32), None)), teacher=graph))
    assert result.graph is graph
    assert "no activation was converted" in result.notes[0]


def test_the_compiler_trains_and_reports(x: np.ndarray) -> None:
    graph, labels = network(), context(x).training
    options = {"calibration": x[:100], "timesteps": 2, "pipeline": DEFAULT_PIPELINE.replace(
        "calibrate-thresholds", "calibrate-thresholds{method=max,correct=none}")}  # fmt: skip
    plain = compile_model(graph, **options)
    tuned = compile_model(graph, finetune=labels, finetune_epochs=5, **options)
    wanted = FloatExecutor(graph).run(x[SAMPLES:]).predictions()
    before, after = (program.simulate(x[SAMPLES:]).accuracy(wanted) for program in (plain, tuned))
    assert after > before + 0.1  # on the chip's integers
    stage = next(stage for stage in tuned.stages if stage.name.startswith("distill"))
    assert stage.contract == "lossy"
    assert len(stage.tables[0].rows) == 6


def test_rates_come_closer_to_the_activations(x: np.ndarray) -> None:
    rows = trained(context(x), "{epochs=4,held_out=0.25}").tables[0].to_dicts()["rows"]
    for block in ("cosine r1", "cosine r2"):
        assert rows[-1][block] > rows[0][block] + 0.005
