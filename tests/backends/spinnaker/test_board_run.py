"""What can be known of a board without one. (That the script is right: test_nest_run.)"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from netlists import random_net

from hsnn_compiler.backends.spinnaker.board_run import board_config, run_board
from hsnn_compiler.diagnostics import HsnnError

BUNDLE_CONFIG = "[Machine]\n# machineName = 192.168.240.253\n# version = 5\n[Reports]\nwrite_network_graph = False\n"


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    return folder


@pytest.mark.parametrize("text", ["", BUNDLE_CONFIG, "not a file of options", "[Machine]\nvirtual_board = True\n"
                                  "machine_name = here\n", "[Machine]\nmachine_name = None\n"])  # fmt: skip
def test_without_a_board_it_says_how_to_get_there(spynnaker: None, home: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / "spynnaker.cfg").write_text(text)
    with pytest.raises(HsnnError, match="E0708 no SpiNNaker board is configured here") as caught:
        board_config([tmp_path])
    finding = caught.value.findings[0]
    assert caught.value.exit_code == 7
    assert str(home / ".spynnaker.cfg") in finding.supported
    assert "machine_name = ADDRESS" in finding.suggestion


def test_a_board_is_found_where_spynnaker_looks(spynnaker: None, home: Path, tmp_path: Path) -> None:
    (tmp_path / "spynnaker.cfg").write_text(BUNDLE_CONFIG)
    own = home / ".spynnaker.cfg"
    for line in ("machineName = 10.0.0.7", "machine_name = 10.0.0.7", "spalloc_server = https://somewhere/spalloc/"):
        own.write_text(f"[Machine]\nversion = 5\n{line}\n")
        assert board_config([tmp_path]) == own
    (tmp_path / "spynnaker.cfg").write_text(BUNDLE_CONFIG.replace("# ", ""))
    assert board_config([tmp_path]) == tmp_path / "spynnaker.cfg"


def test_potentials_of_neurons_that_fire_are_not_read() -> None:
    turn, given = random_net(np.random.default_rng(0), 1, 4)
    with pytest.raises(HsnnError, match="E0204 last: potentials of last are not read from a board"):
        run_board(turn, 4, given, [("last", "v")])
