"""What is said about a partition, and what else there would be."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from value_graphs import Net

from hsnn_compiler.diagnostics import HsnnError
from hsnn_compiler.ir.graph import Graph
from hsnn_compiler.ir.ops import GELU, ReLU
from hsnn_compiler.passes.partitioning.alternatives import alternatives, comparison, criteria, pareto
from hsnn_compiler.passes.partitioning.costs import OBJECTIVES, Prices
from hsnn_compiler.passes.partitioning.explain import placement_table, reasons, traffic_table
from hsnn_compiler.passes.partitioning.objectives import solve_for
from hsnn_compiler.passes.partitioning.problem import INF, alternations
from hsnn_compiler.passes.partitioning.profile import Profile
from hsnn_compiler.passes.partitioning.solver import solve
from hsnn_compiler.passes.partitioning.work import Workload, workload
from hsnn_compiler.report.table import show
from hsnn_compiler.targets import load_target

T = 10


def network() -> Graph:
    """Three layers on either side of an op that the chip cannot run."""
    net = Net((6,)).linear("a0", 12).add("r0", ReLU()).linear("a1", 12).add("r1", ReLU()).linear("a2", 12)
    net.add("gelu", GELU()).linear("b0", 12).add("r2", ReLU()).linear("b1", 12).add("r3", ReLU()).linear("b2", 3)
    return net.done()


def load(**more: object) -> Workload:
    graph = network()
    events = {f"r{i}": np.full(1, 0.1 * (i + 1) * T) for i in range(4)}
    return workload(graph, Profile(T, events, 7), load_target("loihi2"), **more)  # type: ignore[arg-type]


def rows(table: object) -> dict[str, dict[str, object]]:
    return {row[0]: dict(zip(table.columns, row, strict=True)) for row in table.rows}  # type: ignore[attr-defined]


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("limit", [None, 2])
def test_every_node_has_its_reason(objective: str, limit: int | None) -> None:
    work = load(obstacles={"r3": "pinned to the host"})
    prices = Prices(work)
    problem, answer = solve_for(work, objective, limit)
    table = rows(placement_table(prices, objective, answer.chip, limit))
    assert list(table) == [node.name for node in work.graph]
    for name, row in table.items():
        assert row["runs on"] == ("chip" if name in answer.chip else "host")
        assert row["why"]
        host, chip = problem.nodes[name]
        assert (row["cost on the host"], row["cost on the chip"]) == (
            prices.say(objective, host),
            prices.say(objective, chip),
        )
        pinned = problem.pinned(host=[name]) if name in answer.chip else problem.pinned(chip=[name])
        try:
            more = solve(pinned, limit).cost - answer.cost
        except HsnnError:
            more = INF
        said = row["other side: more by"]
        if objective in ("chip", "cores") or more == INF:
            assert said == prices.say(objective, more)
    assert table["r3"]["why"] == "pinned to the host"
    assert table["b2"]["why"] == "r3 feeds it values from the host, which only neurons take"
    assert "GELU does not run" in str(table["gelu"]["why"])
    assert table["b2"]["other side: more by"] == "impossible"


def test_what_pins_to_the_chip_say() -> None:
    work = load(on_chip=frozenset({"r0"}))
    prices = Prices(work)
    _, answer = solve_for(work, "latency")  # the host is faster, by far
    assert answer.chip == {"r0"}
    assert reasons(prices, "latency", answer.chip)["r0"] == "pinned to the chip"
    wordy = reasons(prices, "latency", answer.chip, {"r1": 1e-3, "r2": 0.0, "gelu": INF})
    assert wordy["r1"].endswith("(elsewhere: 1 ms more)")
    assert wordy["r2"].endswith("(elsewhere: the same)")
    assert "elsewhere" not in wordy["gelu"]
    assert all(alternative.chip >= {"r0"} for alternative in alternatives(work))


def test_traffic_is_told_in_bytes() -> None:
    work = load()
    _, answer = solve_for(work, "chip")
    assert answer.chip == {"r0", "a1", "r1", "a2", "r2", "b1", "r3", "b2"}
    table = traffic_table(Prices(work), answer.chip)
    assert [row[:6] for row in table.rows] == [
        ("a0", "r0", "host to chip", "bias currents", 12, 48),
        ("a2", "gelu", "chip to host", "potentials", 12, 48),
        ("b0", "r2", "host to chip", "bias currents", 12, 48),
        ("b2", "y", "chip to host", "potentials", 3, 12),
    ]
    assert "fewer than 0.25" in table.notes[0]
    sparse, busy = (traffic_table(Prices(work), {name}).rows[-1] for name in ("r0", "r3"))
    # 12 neurons that send 1 event each in 10 steps, or 4
    assert sparse[4:] == (12.0, 48.0, 12.0, "values")
    assert busy[4:] == (48.0, 192.0, 12.0, "values")
    quiet = workload(network(), Profile(T, {"r0": np.full(1, 0.2)}, 7), load_target("loihi2"))
    last = traffic_table(Prices(quiet), {"r0"}).rows[-1]
    assert last[4:] == pytest.approx((2.4, 9.6, 12.0, "events"))


def test_alternatives_hold_what_they_promise() -> None:
    work = load()
    asked = []

    def accuracy(chip: frozenset[str]) -> float:
        asked.append(chip)
        return 1 - len(chip) / 100

    found = alternatives(work, 2, accuracy)
    by_name = {name: row for row in found for name in row.names}
    assert len({row.chip for row in found}) == len(found) == len(asked)
    assert by_name["all on the host"].chip == frozenset()
    assert by_name["first 2 of 6 layers on the chip"].chip == {"r0", "a1", "r1"}
    assert by_name["first 5 of 6 layers on the host"].chip == {"r3", "b2"}
    assert {f"objective {objective}" for objective in OBJECTIVES} <= by_name.keys()
    for row in found:
        assert row.accuracy == 1 - len(row.chip) / 100
        assert row.estimate.crossings == alternations(Prices(work).problem("chip"), row.chip) <= 2
    assert "objective energy" in min(found, key=lambda row: row.estimate.energy).names
    several = {name: row for row in alternatives(work) for name in row.names}
    assert several["objective chip"].estimate.turns == 2
    assert several["objective chip"].estimate.host_operations < by_name["objective chip"].estimate.host_operations
    table = comparison(found, work, by_name["objective energy"].chip)
    chosen = [row for row in table.rows if str(row[0]).endswith("(chosen)")]
    assert len(chosen) == 1
    assert "accuracy" in table.notes[0]
    assert all(show(cell) is not None for row in table.rows for cell in row)
    assert [row[-1] == "yes" for row in table.rows] == pareto([criteria(row) for row in found])
    assert len(alternatives(work, splits=2)) < len(found)


def test_pins_that_contradict_leave_no_alternative() -> None:
    with pytest.raises(HsnnError) as error:
        alternatives(load(on_chip=frozenset({"a0"})))
    assert error.value.findings[0].code == "E0432"


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 4)), max_size=9))
def test_pareto(rows: list[tuple[int, int, int]]) -> None:
    marked = pareto(rows)
    for row, best in zip(rows, marked, strict=True):
        worse_than = [
            other
            for other in rows
            if all(o <= r for o, r in zip(other, row, strict=True))
            and any(o < r for o, r in zip(other, row, strict=True))
        ]
        assert best == (not worse_than)
    assert not rows or any(marked)
