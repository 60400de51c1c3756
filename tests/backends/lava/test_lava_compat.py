from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

OWN_PROCESSES = Path(__file__).parents[3] / "backends" / "lava" / "hsnn_lava"
pytestmark = pytest.mark.usefixtures("lava")


def python(script: str) -> str:
    """Run in a fresh interpreter with our package as top-level ``hsnn_lava``; what it printed."""
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", script],
        cwd=OWN_PROCESSES.parent,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(sys.version_info < (3, 11), reason="older dataclasses accept it")
def test_the_obstacle_is_still_there() -> None:
    # When this fails, compat.py's first half can go.
    with pytest.raises(AssertionError, match=r"mutable default .*ByteEncoder"):
        python("import lava.magma.compiler.var_model")


def test_apply_makes_lava_importable_and_leaves_no_hook() -> None:
    python(
        "import sys\n"
        "before = list(sys.meta_path)\n"
        "import hsnn_lava, hsnn_lava.compat\n"
        "from lava.magma.compiler.var_model import AxonEncoder, ByteEncoder\n"
        "assert AxonEncoder().hi == ByteEncoder(0, 0, 0)\n"
        "hsnn_lava.compat.apply()\n"
        "assert sys.meta_path == before\n"
    )


@pytest.mark.skipif(np.lib.NumpyVersion(np.__version__) < "2.1.0", reason="older numpy accepts it")
def test_reshape_port_both_ways() -> None:
    python(
        "import hsnn_lava, numpy as np\n"
        "from lava.magma.core.process.ports.ports import ReshapePort\n"
        "port = ReshapePort(new_shape=(6,), old_shape=(2, 3))\n"
        "assert port.get_transform_func_fwd()(np.zeros((2, 3))).shape == (6,)\n"
        "assert port.get_transform_func_bwd()(np.zeros(6)).shape == (2, 3)\n"
    )


def test_both_names_of_the_package() -> None:
    names = (
        "AxonDelay Bias Collector FirstSpike HostStage LavaError Network OwnDecaysLIF Place Potential "
        "Recorder SampleBias SoftResetLIF Window from_lava host_stage mantissas session simulate to_lava"
    )
    for package in ("hsnn_lava", "hsnn_compiler.backends.lava.hsnn_lava"):
        assert python(f"import {package} as p\nprint(*p.__all__)").split() == names.split()


def test_lava_absent_is_an_import_error() -> None:
    printed = python(
        "import sys\n"
        "sys.modules['lava'] = None\n"
        "try:\n"
        "    import hsnn_lava\n"
        "except ImportError:\n"
        "    print('ImportError')\n"
    )
    assert printed.split() == ["ImportError"]
