"""Profiles of chips and boards: complete, sourced, and boards only say what differs."""

from __future__ import annotations

from importlib import resources

import pytest

from hsnn_compiler.diagnostics import HsnnError
from hsnn_compiler.ir.spec import SPEC, runs_on
from hsnn_compiler.targets import TARGETS, load_target, relatives

LOIHIS = [name for name in TARGETS if name.startswith("loihi2")]


@pytest.mark.parametrize("name", TARGETS)
def test_every_constant_has_a_source(name: str) -> None:
    target = load_target(name)
    assert target.name == name
    for constant in target.constants.values():
        assert constant.value > 0
        assert len(constant.source) > 10
        assert constant.confidence in ("high", "medium", "low")


def test_every_profile_is_a_target() -> None:
    files = {path.name for path in resources.files("hsnn_compiler.targets").iterdir() if path.name.endswith(".toml")}
    assert files == {f"{name}.toml" for name in TARGETS}


def test_a_board_is_its_chip_but_for_what_it_says() -> None:
    chip, kapoho, hala = (load_target(name) for name in LOIHIS)
    assert {board.family for board in (chip, kapoho, hala)} == {chip.name} == {"loihi2"}
    differ = {name for name in chip.constants if kapoho[name] != chip[name]}
    assert differ == {"system.chips"}
    assert (chip.chips, kapoho.chips, hala.chips) == (1, 8, 1152)
    assert kapoho.constants.keys() == chip.constants.keys() == hala.constants.keys()
    assert kapoho.runtime == chip.runtime


def test_the_chips_of_hala_point_add_up_to_the_published_totals() -> None:
    hala = load_target("loihi2-hala-point")
    assert hala.chips * hala["chip.neuron_cores"] == 140_544
    assert hala.chips * hala["chip.synapses"] == pytest.approx(128e9)
    assert hala.chips * hala["chip.neurons"] == pytest.approx(1.15e9, rel=0.01)


def test_relatives_begin_with_the_smallest() -> None:
    for name in LOIHIS:
        assert [target.name for target in relatives(load_target(name))] == LOIHIS
    for alone in ("spinnaker", "spinnaker2"):
        assert [target.name for target in relatives(load_target(alone))] == [alone]


def test_ops_run_on_a_board_as_on_its_chip() -> None:
    for kind in SPEC:
        assert runs_on(kind, load_target("loihi2-kapoho-point").family) == SPEC[kind].targets["loihi2"]
    assert runs_on("LIF", "another chip") == "host"


def test_spinnaker_has_a_column_of_its_own() -> None:
    assert runs_on("LIF", "spinnaker").startswith("native with reset to zero")
    assert runs_on("CubaLIF", "spinnaker").startswith("refused")
    assert runs_on("Softmax", "spinnaker") == "host"
    assert {runs_on(kind, "spinnaker").partition(":")[0].partition(" ")[0].rstrip(",") for kind in SPEC} == {
        "native", "emulated", "folded", "host", "refused"
    }  # fmt: skip


def test_spinnaker_2_resets_both_ways() -> None:
    for kind in ("IF", "LIF"):
        assert runs_on(kind, "spinnaker2").startswith("native: reset by subtraction or to zero")
    assert runs_on("CubaLIF", "spinnaker2").startswith("refused")
    assert runs_on("Softmax", "spinnaker2") == "host"


def test_a_name_that_is_none_lists_all() -> None:
    with pytest.raises(HsnnError) as error:
        load_target("loihi3")
    (finding,) = error.value.findings
    assert finding.code == "E0201"
    assert finding.supported == ", ".join(TARGETS)
