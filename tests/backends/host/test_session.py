"""Running a model: what is refused, and that nothing but numpy and onnxruntime is needed."""

import subprocess
import sys
from pathlib import Path

import nir
import numpy as np
import pytest
from value_graphs import Net

from hsnn_compiler.backends.host import onnx_run
from hsnn_compiler.backends.host.onnx_export import to_onnx
from hsnn_compiler.backends.host.onnx_run import Session, SessionError
from hsnn_compiler.backends.host.session import HostSession
from hsnn_compiler.diagnostics import HsnnError
from hsnn_compiler.ir import Node
from hsnn_compiler.ir import ops as hs

SCRIPT = """
import sys
sys.path.insert(0, sys.argv[1])
import numpy as np
from onnx_run import Session, SessionError
found = Session(sys.argv[2]).run({"x": np.ones((2, 4))})
assert found["y"].shape == (2, 3), found
print(*sorted({name.split(".")[0] for name in sys.modules}))
"""


@pytest.fixture(scope="module")
def data():
    return to_onnx(Net((4,)).linear("fc", 3).done(), "part")


@pytest.fixture
def two():
    net = Net((4,)).linear("fc", 3)
    net.graph.add(Node("x2", nir.Input(np.array([3]))))
    return Session(to_onnx(net.add("sum", hs.Add(), "fc", "x2").done(), "two"))


def test_it_stands_alone(data, tmp_path):
    """A copy of the file, and the model, are all that a bundle needs."""
    (tmp_path / "onnx_run.py").write_text(Path(onnx_run.__file__).read_text("utf-8"), "utf-8")
    (tmp_path / "part.onnx").write_bytes(data)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path), str(tmp_path / "part.onnx")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    loaded = set(done.stdout.split())
    assert "onnxruntime" in loaded
    assert not {"torch", "hsnn_compiler", "onnx", "lava", "nir", "networkx", "numba"} & loaded


def test_importing_it_from_the_package_is_light():
    code = (
        "import sys, hsnn_compiler.backends.host.onnx_run; print(*{name.split('.')[0] for name in sys.modules});"
        "print([name for name in sys.modules if name.startswith('hsnn_compiler.') and 'backends' not in name])"
    )
    modules, core = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.splitlines()  # fmt: skip
    assert not {"torch", "onnx", "onnxruntime", "nir"} & set(modules.split())
    assert core == "[]"


def test_bytes_and_paths_and_numbers_of_any_kind(data, tmp_path):
    (tmp_path / "part.onnx").write_bytes(data)
    x = np.arange(12).reshape(3, 4)
    wanted = Session(data).run({"x": x.astype(np.float32)})["y"]
    for given in (x, x.astype(np.uint8), x.astype(np.float64), x.tolist(), x[:, ::-1][:, ::-1]):
        np.testing.assert_array_equal(Session(tmp_path / "part.onnx").run({"x": given})["y"], wanted)
    np.testing.assert_array_equal(HostSession(str(tmp_path / "part.onnx")).run({"x": x})["y"], wanted)


def test_the_same_input_gives_the_same_bits():
    net = Net((3, 16, 16)).conv("conv", 8).add("relu", hs.ReLU()).flatten().linear("fc", 10).add("soft", hs.Softmax())
    model = to_onnx(net.done(), "part")
    x = np.random.default_rng(0).normal(size=(9, 3, 16, 16))
    wanted = Session(model).run({"x": x})["y"]
    for _ in range(3):
        np.testing.assert_array_equal(Session(model).run({"x": x})["y"], wanted)


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        ({"x": np.ones((2, 4))}, "inputs"),
        ({"x": np.ones((2, 4)), "x2": np.ones((2, 3)), "z": np.ones(1)}, "inputs"),
        ({"x": np.ones((2, 5)), "x2": np.ones((2, 3))}, "[2, 5]"),
        ({"x": np.ones(4), "x2": np.ones((2, 3))}, "[4]"),
        ({"x": np.array([["a"] * 4] * 2), "x2": np.ones((2, 3))}, "'x'"),
        ({"x": np.ones((2, 4)), "x2": np.ones((3, 3))}, "2, 3 samples"),
        ({"x": np.ones((0, 4)), "x2": np.ones((0, 3))}, "0 samples"),
    ],
)
def test_wrong_inputs_are_refused(two, inputs, says):
    with pytest.raises(SessionError) as error:
        two.run(inputs)
    assert error.value.code == "E0330"
    assert says in str(error.value)
    assert error.value.exit_code == 3


def test_what_is_no_model_is_refused(data, tmp_path):
    (tmp_path / "cut.onnx").write_bytes(data[: len(data) // 2])
    for model in (b"", b"no model", tmp_path / "missing.onnx", tmp_path / "cut.onnx", tmp_path):
        with pytest.raises(SessionError) as error:
            Session(model)
        assert error.value.code == "E0705"
    with pytest.raises(HsnnError) as refused:
        HostSession(tmp_path / "missing.onnx")
    assert refused.value.exit_code == 7
    with pytest.raises(HsnnError, match="E0330"):
        HostSession(data).run({})


def test_without_onnxruntime(data, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(SessionError) as error:
        Session(data)
    assert (error.value.code, error.value.exit_code) == ("E0704", 7)
    with pytest.raises(HsnnError) as refused:
        HostSession(data)
    assert refused.value.exit_code == 7
    assert refused.value.findings[0].suggestion == "pip install onnxruntime"
