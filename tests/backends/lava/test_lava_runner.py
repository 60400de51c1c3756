"""Every way a run can end: with a result or a typed error, soon, and with nothing left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hsnn_compiler.backends.lava import runner
from hsnn_compiler.backends.lava.runner import run_network
from hsnn_compiler.diagnostics import HsnnError

pytestmark = pytest.mark.skipif(not Path("/proc").exists(), reason="looks for leftovers in /proc")

# A network with a process between two populations that misbehaves in step 3.
BAD_NETWORK = """\
    from bad import Bad
    from hsnn_lava import SoftResetLIF


    class Network:
        def __init__(self, inputs):
            first = SoftResetLIF(shape=(4,), bias_mant=1, bias_exp=6, vth=2, name="first")
            bad = Bad(mode=str(inputs["mode"]), name="culprit")
            second = SoftResetLIF(shape=(4,), vth=2, name="second")
            first.s_out.connect(bad.s_in)
            bad.a_out.connect(second.a_in)
            self.neurons = {"first": first, "second": second}
            self.steps = 20
"""
BAD_PROCESS = """\
    import os
    import signal
    import time

    import numpy as np
    from lava.magma.core.decorator import implements, requires
    from lava.magma.core.model.py.model import PyLoihiProcessModel
    from lava.magma.core.model.py.ports import PyInPort, PyOutPort
    from lava.magma.core.model.py.type import LavaPyType
    from lava.magma.core.process.ports.ports import InPort, OutPort
    from lava.magma.core.process.process import AbstractProcess
    from lava.magma.core.resources import CPU
    from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol


    class Bad(AbstractProcess):
        def __init__(self, *, mode, name):
            super().__init__(mode=mode, name=name)
            self.s_in = InPort(shape=(4,))
            self.a_out = OutPort(shape=(4,))


    @implements(proc=Bad, protocol=LoihiProtocol)
    @requires(CPU)
    class PyBad(PyLoihiProcessModel):
        s_in: PyInPort = LavaPyType(PyInPort.VEC_DENSE, np.int32)
        a_out: PyOutPort = LavaPyType(PyOutPort.VEC_DENSE, np.int32)

        def __init__(self, proc_params):
            super().__init__(proc_params)
            self.mode = proc_params["mode"]
            if self.mode == "init raises":
                raise ValueError("no such flower")
            if self.mode == "init dies":
                os.kill(os.getpid(), signal.SIGKILL)

        def run_spk(self):
            data = self.s_in.recv()
            if self.time_step == 3:
                if self.mode == "hang":
                    time.sleep(1000)
                if self.mode == "raise":
                    raise ValueError("no such flower")
                if self.mode == "shape":
                    data = np.zeros(5, np.int32)
                if self.mode == "die":
                    os.kill(os.getpid(), signal.SIGKILL)
                if self.mode == "kill child":
                    os.kill(os.getppid(), signal.SIGKILL)
            self.a_out.send(data)

        def post_guard(self):
            return self.time_step == 20 and self.mode == "hang at the end"

        def run_post_mgmt(self):
            time.sleep(1000)

        def _stop(self):
            if self.mode == "hang when asked to stop":
                time.sleep(1000)
            super()._stop()
"""
RECORD = {"first": ["s"], "second": ["s", "v"]}


@pytest.fixture
def bad_dir(network_dir: Callable[..., Path]) -> Path:
    return network_dir(BAD_NETWORK, bad=BAD_PROCESS)


@pytest.fixture
def nothing_left(leftovers: Any) -> Iterator[Any]:
    yield leftovers
    leftovers.check()


def run(bad_dir: Path, mode: str, deadline_s: float = 60.0, **options: object) -> HsnnError:
    """Run the network that is to fail; the error. Crashes must not take until the deadline."""
    start = time.monotonic()
    with pytest.raises(HsnnError) as caught:
        run_network(bad_dir, {"mode": np.array(mode)}, RECORD, deadline_s=deadline_s, **options)  # type: ignore[arg-type]
    assert time.monotonic() - start < 20.0
    return caught.value


def test_a_result_and_progress(bad_dir: Path, nothing_left: Any) -> None:
    seen: list[tuple[int, int]] = []
    result = run_network(
        bad_dir,
        {"mode": np.array("well")},
        RECORD,
        deadline_s=60,
        on_progress=lambda *news: seen.append(news),
    )
    assert set(result) == {("first", "s"), ("second", "s"), ("second", "v")}
    assert result["first", "s"].shape == (20, 4)
    # v = 64 t, spike above 128, minus 128: 64, 128, 192!, 128, 192!, ...
    assert result["first", "s"][:, 0].tolist() == [0, 0, *[1, 0] * 9]
    assert seen[-1] == (20, 20)
    assert seen == sorted(seen)


def test_an_exception_in_a_step(bad_dir: Path, nothing_left: Any) -> None:
    error = run(bad_dir, "raise")
    assert error.findings[0].code == "E0110"
    assert error.exit_code == 1
    assert "culprit (Bad) raised an exception" in str(error)
    assert "ValueError: no such flower" in str(error)


def test_an_exception_while_building(bad_dir: Path, nothing_left: Any) -> None:
    error = run(bad_dir, "init raises")
    assert error.findings[0].code == "E0110"
    assert "culprit (Bad) could not be built" in str(error)
    assert "ValueError: no such flower" in str(error)


def test_a_wrong_shape(bad_dir: Path, nothing_left: Any) -> None:
    error = run(bad_dir, "shape")
    assert error.findings[0].code == "E0110"
    assert "culprit" in str(error)
    assert "Mismatch" in str(error)


@pytest.mark.parametrize("mode", ["die", "init dies"])
def test_a_killed_process_model(bad_dir: Path, nothing_left: Any, mode: str) -> None:
    error = run(bad_dir, mode)
    assert error.findings[0].code == "E0111"
    assert "culprit (Bad) was killed by SIGKILL" in str(error)


def test_a_killed_child(bad_dir: Path, nothing_left: Any) -> None:
    error = run(bad_dir, "kill child")
    assert error.findings[0].code == "E0112"
    assert "SIGKILL" in str(error)


def test_a_hang(bad_dir: Path, nothing_left: Any) -> None:
    in_use: list[str] = []
    error = run(bad_dir, "hang", deadline_s=4, on_progress=lambda *_: in_use.extend(nothing_left.shared_memory()))
    assert error.findings[0].code == "E0801"
    assert error.exit_code == 8
    assert "step 2 of 20" in str(error)
    assert in_use, "Lava's shared memory does not carry our names, so leftovers would not be found"


@pytest.mark.parametrize("mode", ["hang at the end", "hang when asked to stop"])
def test_a_hang_once_everything_is_recorded(bad_dir: Path, nothing_left: Any, mode: str) -> None:
    # Seen in Lava's own processes, rarely: the result is whole, so that it is a result.
    result = run_network(bad_dir, {"mode": np.array(mode)}, RECORD, deadline_s=60)
    assert result["first", "s"][:, 0].tolist() == [0, 0, *[1, 0] * 9]


def test_an_interrupt(bad_dir: Path, nothing_left: Any) -> None:
    timer: list[threading.Timer] = []

    def interrupt_soon(done: int, steps: int) -> None:
        if done == 2 and not timer:
            timer.append(threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)))
            timer[0].start()

    with pytest.raises(KeyboardInterrupt):
        run_network(bad_dir, {"mode": np.array("hang")}, RECORD, deadline_s=60, on_progress=interrupt_soon)


def test_a_killed_parent(bad_dir: Path, leftovers: Any) -> None:
    script = (
        "import numpy as np; from pathlib import Path\n"
        "from hsnn_compiler.backends.lava.runner import run_network\n"
        f"run_network(Path({str(bad_dir)!r}), {{'mode': np.array('hang')}}, {RECORD!r},\n"
        "    deadline_s=60, on_progress=lambda *news: print(*news, flush=True))\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        while not parent.stdout.readline().startswith("2 "):
            assert parent.poll() is None
        assert leftovers.processes()
        parent.kill()
    leftovers.check(parent.pid)


def test_a_script_of_ones_own_leaves_nothing(bad_dir: Path) -> None:
    script = (
        "import hsnn_lava, network\n"
        "net = network.Network({'mode': 'well'})\n"
        f"print(hsnn_lava.simulate(net, {RECORD!r}, directory='recorded')['first', 's'].sum())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=bad_dir, capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "36\n", "")


@pytest.mark.parametrize("mode", ["raise", "die", "init raises"])
def test_a_script_of_ones_own_ends_too(bad_dir: Path, mode: str) -> None:
    # Without the child around it: simulate() itself notices, cleans up and raises.
    script = (
        "import hsnn_lava, network\n"
        f"net = network.Network({{'mode': {mode!r}}})\n"
        f"hsnn_lava.simulate(net, {RECORD!r}, directory='recorded')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=bad_dir, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 1
    assert "LavaError: Lava process culprit (Bad)" in done.stderr
    assert "leaked" not in done.stderr, "Python's resource tracker found shared memory left behind"


def test_a_network_that_does_not_import(network_dir: Callable[..., Path], nothing_left: Any) -> None:
    folder = network_dir("raise NameError('half a file')\n")
    error = run(folder, "any")
    assert error.findings[0].code == "E0113"
    assert "NameError: half a file" in str(error)


def test_an_unknown_population(bad_dir: Path, nothing_left: Any) -> None:
    with pytest.raises(HsnnError, match=r"E0113.*third"):
        run_network(bad_dir, {"mode": np.array("well")}, {"third": ["s"]}, deadline_s=60)


def test_parts_that_do_not_touch_each_other(network_dir: Callable[..., Path], nothing_left: Any) -> None:
    """Lava alone would run one of them and say nothing of the others."""
    folder = network_dir("""\
        from hsnn_lava import SoftResetLIF


        class Network:
            def __init__(self, inputs):
                self.neurons = {
                    name: SoftResetLIF(shape=(number,), bias_mant=number, dv=4096, vth=100, name=name)
                    for number, name in enumerate(("here", "there", "elsewhere"), 1)
                }
                self.steps = 2
    """)
    record = {"here": ["v"], "there": ["s", "v"], "elsewhere": ["v"]}
    recorded = run_network(folder, {}, record, deadline_s=60)
    assert recorded["there", "s"].sum() == 0
    for number, name in enumerate(record, 1):
        np.testing.assert_array_equal(recorded[name, "v"], np.full((2, number), number))


def test_lava_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runner, "lava_version", lambda: None)
    with pytest.raises(HsnnError, match="hsnn-compile doctor --install lava") as caught:
        run_network(tmp_path, {}, {}, deadline_s=1)
    assert caught.value.findings[0].code == "E0701"
    assert caught.value.exit_code == 7


def test_lava_without_what_it_needs(network_dir: Callable[..., Path], nothing_left: Any) -> None:
    folder = network_dir("raise ModuleNotFoundError('No module named asteval', name='asteval')\n")
    error = run(folder, "any")
    assert error.findings[0].code == "E0701"
    assert "asteval" in str(error)
