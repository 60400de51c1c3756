"""Host and chip in turns: Lava, with the host's stages as processes of its own, equals the integer reference."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hybrid_models import random_hybrid
from lava_runs import failures
from picks import Picks

import hsnn_compiler as hc
from hsnn_compiler.backends.host.runner import onnx_runner
from hsnn_compiler.ir.graph import Graph, Node
from hsnn_compiler.ir.stages import host_stages, middle_stages, stage_graph
from hsnn_compiler.program import Program
from hsnn_compiler.reference.batches import has_time
from hsnn_compiler.reference.host_stage import Arrays, Runner, float_runner
from hsnn_compiler.reference.loihi_executor import LoihiExecutor

pytestmark = pytest.mark.usefixtures("lava")
SAMPLES = 3
WITHOUT_TORCH = """
import runpy, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "hsnn_compiler"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def compiled(seed: int, samples: str = "pipelined") -> tuple[Program, np.ndarray]:
    model, x = random_hybrid(Picks.seeded(seed))
    return hc.compile(model, calibration=x, example=x[:1], samples=samples), x


def assert_equal_on_lava(program: Program, x: np.ndarray, directory: Path) -> None:
    """Spikes, u and v of all populations, bit for bit, and the outputs."""
    program.save(directory)
    record = [(name, variable) for name in program.populations for variable in program.graph[name].states + "s"]
    wanted = program.simulate(x[:SAMPLES], record=record)
    found = program.simulate(x[:SAMPLES], backend="lava", record=record, deadline_s=120)
    for key, trace in wanted.trace.items():
        np.testing.assert_array_equal(found.trace[key], trace, err_msg=str(key))
    for name, output in wanted.outputs.items():
        # Computed twice by PyTorch, whose last bit depends on how many threads there are.
        np.testing.assert_allclose(found.outputs[name], output, rtol=0, atol=1e-6)


@pytest.mark.parametrize("samples", ["pipelined", "serial"])
@pytest.mark.parametrize("seed", [4, 12])
def test_a_few(seed: int, samples: str, tmp_path: Path) -> None:
    """With the real child process; both ways of sending samples give the same, as the reference does not know them."""
    program, x = compiled(seed, samples)
    assert_equal_on_lava(program, x, tmp_path / "bundle")


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("fast_lava")
def test_many(tmp_path: Path) -> None:
    """All that fail are named by their seed."""
    # One after the other: PyTorch's seed and what capture hooks into belong to all threads.
    programs = {seed: compiled(seed, "serial" if seed % 4 == 0 else "pipelined") for seed in range(10, 40)}
    turns = [len(middle_stages(program.graph)) for program, _ in programs.values()]
    wrong = failures(programs, lambda seed: assert_equal_on_lava(*programs[seed], tmp_path / str(seed)))
    assert not wrong, wrong
    assert sum(turn > 0 for turn in turns) >= 15
    assert max(turns) >= 2


def test_stages_on_onnxruntime_and_on_torch_are_equal() -> None:
    """Every stage of the host, on what it really gets: what the reference has at that point."""
    compared = 0

    def both(part: Graph) -> Runner:
        runners = onnx_runner(part), float_runner(part)

        def run(arrays: Arrays) -> Arrays:
            nonlocal compared
            found, wanted = (runner(arrays) for runner in runners)
            assert found.keys() == wanted.keys()
            for name, array in wanted.items():
                np.testing.assert_allclose(found[name], array, rtol=1e-5, atol=1e-5, err_msg=f"{part.name}: {name}")
            compared += 1
            return found

        return run

    for seed in range(12):
        program, x = compiled(seed)
        LoihiExecutor(program.graph, hosts=both).run(x)
        first, *_, last = host_stages(program.graph)
        for stage in (first, last):  # the ends are not run by `hosts`: on noise
            part = stage_graph(program.graph, stage)
            rng = np.random.default_rng(seed)
            both(part)({n.name: rng.random((2, *_steps(n, part), *n.shape), np.float32) for n in part.of_kind("Input")})
    assert compared >= 30


def _steps(node: Node, part: Graph) -> tuple[int, ...]:
    return (part.timesteps or 1,) if has_time(node) else ()


def test_a_bundle_runs_without_torch(tmp_path: Path) -> None:
    program, x = compiled(4)
    program.save(tmp_path / "bundle")
    np.savez(tmp_path / "x.npz", x=x[:SAMPLES])
    command = [sys.executable, "-c", WITHOUT_TORCH, str(tmp_path / "bundle" / "run.py"), str(tmp_path / "x.npz")]
    # Only the bundle's own folder, as where hsnn-compiler is not installed.
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "bundle")}
    done = subprocess.run(
        [*command, "--out", str(tmp_path / "out.npz")],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    wanted = program.simulate(x[:SAMPLES]).outputs
    found = np.load(tmp_path / "out.npz")
    for name, output in wanted.items():
        np.testing.assert_allclose(found[name], output, atol=1e-5)
