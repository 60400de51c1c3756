"""Fine-tuning on events: from the data to a bundle that runs on Lava, and back through verify."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from value_graphs import Net, run_passes

import hsnn_compiler as hc
from hsnn_compiler.cli.errors import run as run_command
from hsnn_compiler.cli.main import group
from hsnn_compiler.data import load_arrays
from hsnn_compiler.diagnostics import HsnnError
from hsnn_compiler.finetune import Finetune, training_data
from hsnn_compiler.ir import Graph
from hsnn_compiler.ir.text import to_text
from hsnn_compiler.loading import load_model
from hsnn_compiler.passes.finetune_events import FinetuneEvents
from hsnn_compiler.passes.pipeline import DEFAULT_PIPELINE
from hsnn_compiler.passes.training import output_gain
from hsnn_compiler.reference.float_executor import FloatExecutor

DIGITS = Path(__file__).parents[2] / "examples" / "digits"
TO_EVENTS = DEFAULT_PIPELINE.split(",map-direct", maxsplit=1)[0].replace("to-events", "to-events{mapping=none}")


def training_digits(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Images that the example was trained on, split as it does."""
    sys.path.insert(0, str(DIGITS))
    try:
        from train import load_data
    finally:
        sys.path.remove(str(DIGITS))
    x, _, y, _ = load_data()
    return x[:count], y[:count]


@pytest.fixture
def cli(tmp_path, monkeypatch, capsys):
    """Run the command line in an empty folder; returns (status, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def call(*words):
        status = run_command(group, [str(word) for word in words])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call


def small() -> Graph:
    """A net on direct input, of which events leave little."""
    net = Net((6,), timesteps=8, seed=1).encode().linear("a", 30).neuron("n", threshold=[0.4])
    return net.linear("b", 4).neuron("out", threshold=[0.5]).done("mean")


def samples(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Inputs, and what the net says of them."""
    x = (2 * np.random.default_rng(1).random((count, 6))).astype(np.float32)
    return x, FloatExecutor(small()).run(x).predictions()


def run(options: str, finetune: Finetune, graph: Graph | None = None, pipeline: str = TO_EVENTS, **more: object):
    pipeline = pipeline.replace("finetune-events", f"finetune-events{{{options}}}")
    more = {"encode": "ttfs", "calibration": samples(40)[0], "finetune": finetune} | more
    return {stage.item.name: stage for stage in run_passes(graph or small(), pipeline, **more)}


@pytest.mark.parametrize(
    ("labels", "options"),
    [
        (True, "rate=.025"),
        (False, "rate=.025"),
        (True, "rate=.025,alpha=1"),
        (True, "train=threshold+gain+decay+leak,optimiser=adam,rate=.05"),
        (True, "rate=.025,bits=3"),
        (True, "rate=.025,engine=rate"),
    ],
)
def test_it_learns_with_labels_and_without(labels: bool, options: str) -> None:
    x, y = samples(400)
    before = to_text(small())
    stages = run(f"epochs=16,batch=16,{options}", training_data((x[:200], y[:200] if labels else None)))
    assert to_text(small()) == before
    mapped, done = stages["map-surrogate-to-events"].result.graph, stages["finetune-events"].result
    assert done.modified
    right = [FloatExecutor(graph).run(x[200:]).accuracy(y[200:]) for graph in (mapped, done.graph)]
    assert right[1] > right[0] + 0.1, right
    trained = {key.rpartition(":")[2] for key in done.trained}
    assert trained <= ({"threshold", "gain", "decay", "leak"} if "threshold" in options else {"weight", "bias"})
    (table,) = done.tables
    first, *_, last = table.rows
    assert (first[0], first[1], last[0]) == (0, None, 16)
    assert max(row[4] for row in table.rows) >= first[4]
    assert ("agrees with teacher %" in table.columns) == (not labels)


def test_what_was_trained_once_is_taken_as_it_is() -> None:
    x, y = samples(60)
    done = run("epochs=2", training_data((x, y)))["finetune-events"].result
    again = run("epochs=2", Finetune(trained={"finetune-events": done.trained}))["finetune-events"].result
    assert to_text(again.graph) == to_text(done.graph)
    assert again.modified
    same = run("epochs=2", training_data((x, y)))["finetune-events"].result
    assert to_text(same.graph) == to_text(done.graph), "the same data and options give the same bits"


def test_it_ends_no_worse_than_it_began_and_says_so() -> None:
    x, y = samples(60)
    done = run("epochs=2,rate=1e-12", training_data((x, y)))["finetune-events"].result
    held = [row[4] for row in done.tables[0].rows]
    assert max(held) == held[0]
    wild = run("epochs=3,rate=1e6", training_data((x, y)))["finetune-events"].result
    start, *others = [row[4] for row in wild.tables[0].rows]
    kept = int(wild.tables[0].notes[0].split("epoch ")[1].split(" ")[0])
    assert [start, *others][kept] >= start


def test_nothing_happens_without_data_or_events() -> None:
    assert not run("", Finetune())["finetune-events"].result.modified
    x, y = samples(20)
    stage = run("", training_data((x, y)), encode="current")["finetune-events"].result
    assert stage.notes == ("no events enter the network: nothing to train",)
    program = hc.compile(small(), calibration=x, finetune=(x, y))
    assert "W0556" in [finding.code for finding in program.findings]
    assert program.trained == {}


def test_epochs_and_checkpoints_come_from_outside(tmp_path: Path) -> None:
    x, y = samples(40)
    given = Finetune((x, y), epochs=2, checkpoints=tmp_path)
    first = run("epochs=50", given)["finetune-events"].result
    assert (tmp_path / "finetune-events.pt").is_file()
    assert first.tables[0].rows[-1][0] == 2
    assert to_text(run("epochs=50", given)["finetune-events"].result.graph) == to_text(first.graph)
    with pytest.raises(HsnnError, match="E0552"):
        run("epochs=50,alpha=.5", given)


def test_all_that_is_wrong_is_said_at_once() -> None:
    x, y = samples(20)
    plain = TO_EVENTS.replace("convert-activations,calibrate-thresholds,", "")
    with pytest.raises(HsnnError) as caught:
        run(
            "alpha=2,temperature=0,held_out=1,engine=magic,bits=12,optimiser=none",
            Finetune((x[:1], y[:1] + 7)),
            pipeline=plain,
        )
    codes = [finding.code for finding in caught.value.findings]
    assert sorted(codes) == ["E0212"] * 6 + ["E0315", "E0554"]
    with pytest.raises(HsnnError, match="E0555"):
        run("", Finetune((x, None)), pipeline=plain)
    one = Net((6,), timesteps=8).encode().linear("a", 1).neuron("n").done("mean")
    with pytest.raises(HsnnError, match="E0553"):
        run("", Finetune((x, None)), one)
    for data, code in (((x * np.nan, None), "E0313"), ((x, y[:3]), "E0315"), ((x, y.astype(float)), "E0315")):
        with pytest.raises(HsnnError, match=code):
            training_data(data)
    with pytest.raises(HsnnError, match="E0330"):
        hc.compile(small(), calibration=x, finetune=(x[:, :5], y))
    with pytest.raises(HsnnError, match="E0217"):
        hc.compile(small(), calibration=x, finetune=(x, y), finetune_epochs=0)


def test_outputs_become_logits() -> None:
    assert output_gain(small()) == 10
    assert output_gain(Net((3,), timesteps=4).encode().linear("a", 2).neuron("n").linear("b", 2).done("mean")) == 1
    assert FinetuneEvents().alpha == 0.4


def test_from_data_to_lava_and_back_through_verify(cli, tmp_path: Path, lava: None) -> None:
    """``hsnn-compile digits_direct.pt --encode ttfs --finetune``: its bundle on Lava is the reference, and verifies."""
    torch.set_num_threads(1)
    x, y = training_digits(400)
    np.savez(tmp_path / "train.npz", x=x, y=y)
    pipeline = DEFAULT_PIPELINE.replace("to-events", "to-events{mapping=none}")
    pipeline = pipeline.replace("finetune-events", "finetune-events{batch=16,rate=0.025}")
    words = [DIGITS / "digits_direct.pt", "--encode", "ttfs", "--timesteps", "8", "-p", pipeline, "-o", "bundle"]
    words += ["--calib", DIGITS / "digits_calib.npz", "--finetune", "train.npz", "--finetune-epochs", "2"]
    status, out, err = cli(*words)
    assert status == 0, err
    assert "Fine-tuning on events" in out
    manifest = json.loads((tmp_path / "bundle" / "manifest.json").read_text())
    assert manifest["options"]["finetune"] == "400 samples"
    assert manifest["options"]["finetune_epochs"] == 2
    assert "graphs/trained.npz" in manifest["files"]

    program = hc.load(tmp_path / "bundle")
    assert set(program.trained) == {"finetune-events"}
    test = load_arrays(DIGITS / "digits_test.npz")
    ours, theirs = (program.simulate(test.x[:3], backend).output for backend in ("reference", "lava"))
    np.testing.assert_array_equal(ours, theirs)
    model = load_model(DIGITS / "digits_direct.pt").module
    calibration = load_arrays(DIGITS / "digits_calib.npz").x
    made = program.verify(model, test.x[:100], test.y[:100], calibration=calibration)
    assert made.ok, made.findings
    accuracies = {outcome.name: outcome.accuracy for outcome in made.outcomes}
    assert accuracies["finetune-events"] > accuracies["map-surrogate-to-events"] + 0.2
    assert accuracies["program"] > accuracies["map-surrogate-to-events"] + 0.2


def test_the_command_line_refuses_options_without_data(cli) -> None:
    status, _, err = cli(DIGITS / "digits_cnn.pt", "--input-shape", "1,8,8", "--finetune-epochs", "2", "--dry-run")
    assert status == 2
    assert "--finetune FILE" in err
