"""The solver against every assignment there is, on small random graphs; and its speed on large ones."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from picks import Picks, picks

from hsnn_compiler.diagnostics import HsnnError
from hsnn_compiler.passes.partitioning import bounded, solver
from hsnn_compiler.passes.partitioning.bounded import solve_bounded
from hsnn_compiler.passes.partitioning.problem import INF, Crossing, Problem, alternations
from hsnn_compiler.passes.partitioning.solver import forced, solve


def cost(p: Picks) -> float:
    """Small integers, so that many assignments tie, now and then awkward numbers, now and then infinity."""
    return p.choice([float(p.integer(0, 6)), p.integer(0, 6), 0.1 * p.integer(0, 9), 1e-12 * p.integer(0, 9), INF])


def random_problem(p: Picks, most: int, *, chain: bool = False) -> Problem:
    count = p.integer(1, most)
    nodes = {f"n{i}": (cost(p), cost(p)) for i in range(count)}
    crossings = []
    for i in range(1, count):
        for src in [i - 1] if chain else sorted({p.integer(0, i - 1) for _ in range(p.integer(0, 2))}):
            crossings.append(Crossing(f"n{src}", (f"n{i}",), cost(p), cost(p)))
    if not chain and count > 2:
        for _ in range(p.integer(0, 2)):  # one signal, several receivers
            src = p.integer(0, count - 2)
            dsts = tuple(f"n{i}" for i in range(src + 1, count) if p.flag())
            if dsts:
                crossings.append(Crossing(f"n{src}", dsts, cost(p), cost(p)))
    return Problem(nodes, tuple(crossings))


def paths(problem: Problem, start: str, chip: frozenset[str]) -> Iterator[int]:
    """Changes of sides along every path from a node, one path after the other."""
    after = {dst for c in problem.crossings if c.src == start for dst in c.dsts}
    if not after:
        yield 0
    for dst in after:
        for changes in paths(problem, dst, chip):
            yield changes + ((dst in chip) != (start in chip))


def total(problem: Problem, chip: frozenset[str]) -> float:
    """The definition, written out: nodes, and a crossing once where a receiver is elsewhere."""
    found = [both[1] if name in chip else both[0] for name, both in problem.nodes.items()]
    for src, dsts, to_chip, to_host in problem.crossings:
        others = [dst for dst in dsts if (dst in chip) != (src in chip)]
        if others:
            found.append(to_host if src in chip else to_chip)
    return sum(found)


def everything(problem: Problem, limit: int | None = None) -> dict[frozenset[str], float]:
    """All assignments that are possible, with their costs."""
    names = list(problem.nodes)
    found = {}
    for sides in itertools.product([True, False], repeat=len(names)):
        chip = frozenset(itertools.compress(names, sides))
        if limit is None or max(n for name in names for n in paths(problem, name, chip)) <= limit:
            found[chip] = total(problem, chip)
    return {chip: price for chip, price in found.items() if price < INF}


def check(problem: Problem, limit: int | None) -> None:
    best = everything(problem, limit)
    if not best:
        with pytest.raises(HsnnError) as error:
            solve(problem, limit)
        assert [finding.code for finding in error.value.findings] == ["E0432"]
        return
    answer = solve(problem, limit)
    assert answer.exact
    assert answer.cost == pytest.approx(min(best.values()), rel=1e-12, abs=1e-24)
    assert answer.chip in best
    assert total(problem, answer.chip) == pytest.approx(answer.cost, rel=1e-12, abs=1e-24)
    assert problem.cost(answer.chip) == answer.cost
    if limit is not None:
        assert alternations(problem, answer.chip) <= limit
    for name, more in forced(problem, answer.chip, limit).items():
        others = [price for chip, price in best.items() if (name in chip) != (name in answer.chip)]
        assert answer.cost + more == pytest.approx(min(others, default=INF), rel=1e-12, abs=1e-24)


@settings(max_examples=120, deadline=None)
@given(picks(), st.sampled_from([None, None, 0, 1, 2, 3]))
def test_equals_brute_force(p: Picks, limit: int | None) -> None:
    check(random_problem(p, 7), limit)


@pytest.mark.parametrize("seed", range(6))
def test_equals_brute_force_on_twelve_nodes(seed: int) -> None:
    rng = np.random.default_rng(seed)
    names = [f"n{i}" for i in range(12)]
    nodes = {name: (float(rng.integers(9)), float(rng.integers(9))) for name in names}
    nodes["n0"] = (0.0, INF)
    ends = [(int(rng.integers(i)), i) for i in range(1, 12) for _ in range(2)]
    crossings = [Crossing(names[a], (names[b],), *(float(c) for c in rng.integers(0, 5, 2))) for a, b in ends]
    for limit in (None, 2):
        check(Problem(nodes, tuple(crossings)), limit)


@settings(max_examples=60, deadline=None)
@given(picks(), st.sampled_from([0, 1, 2, 4]))
def test_on_chains_it_is_exact_with_a_limit(p: Picks, limit: int) -> None:
    check(random_problem(p, 9, chain=True), limit)


@settings(max_examples=40, deadline=None)
@given(picks())
def test_on_chains_dynamic_programming_without_a_limit_is_the_minimum_cut(p: Picks) -> None:
    problem = random_problem(p, 40, chain=True)
    try:
        cut = solve(problem)
    except HsnnError:
        with pytest.raises(HsnnError):
            solve_bounded(problem, len(problem.nodes))
        return
    by_programming = solve_bounded(problem, len(problem.nodes))
    assert by_programming == cut  # the same nodes on the chip, too


@settings(max_examples=60, deadline=None)
@given(picks())
def test_ties_go_to_the_chip(p: Picks) -> None:
    """Of everything that costs the least, the answer has all nodes on the chip that any has there."""
    problem = random_problem(p, 7)
    whole = {name: tuple(c if c == INF else round(c) for c in both) for name, both in problem.nodes.items()}
    ways = tuple(Crossing(c.src, c.dsts, *(x if x == INF else round(x) for x in c[2:])) for c in problem.crossings)
    problem = Problem(whole, ways)  # type: ignore[arg-type]
    best = everything(problem)
    if best:
        least = min(best.values())
        assert solve(problem).chip == frozenset().union(*(chip for chip, price in best.items() if price == least))


def test_what_is_paid_once_is_paid_once() -> None:
    nodes = {"a": (INF, 0.0), "b": (0.0, 5.0), "c": (0.0, 5.0), "d": (0.0, 5.0)}
    once = Problem(nodes, (Crossing("a", ("b", "c", "d"), 0.0, 6.0),))
    each = Problem(nodes, tuple(Crossing("a", (name,), 0.0, 6.0) for name in "bcd"))
    assert (solve(once).cost, solve(once).chip) == (6.0, {"a"})
    assert (solve(each).cost, solve(each).chip) == (15.0, set("abcd"))


def test_a_contradiction_names_the_way() -> None:
    nodes = {"conv": (0.0, INF), "pool": (0.0, 0.0), "relu": (INF, 0.0)}
    ways = (Crossing("conv", ("pool",), INF, 0.0), Crossing("pool", ("relu",), INF, 0.0))
    with pytest.raises(HsnnError, match="conv -> pool -> relu cannot be parted"):
        solve(Problem(nodes, ways))
    with pytest.raises(HsnnError, match="neither on the host nor on the chip"):
        solve(Problem({"a": (INF, INF)}))


def test_costs_that_are_none_are_refused() -> None:
    for wrong in (-1.0, float("nan")):
        with pytest.raises(ValueError, match="negative, or not a number"):
            Problem({"a": (0.0, wrong)})
    with pytest.raises(ValueError, match="do not exist"):
        Problem({"a": (0.0, 0.0)}, (Crossing("a", ("b",)),))


def test_loops_stay_on_one_side_where_crossings_are_limited() -> None:
    nodes = {"x": (0.0, INF), "a": (2.0, 0.0), "b": (0.0, 3.0), "y": (0.0, INF)}
    loop = [("x", "a"), ("a", "b"), ("b", "a"), ("b", "y")]
    problem = Problem(nodes, tuple(Crossing(src, (dst,)) for src, dst in loop))
    assert solve(problem).chip == {"a"}
    assert alternations(problem, {"a"}) == INF
    assert solve(problem, 2).chip == frozenset()
    assert forced(problem, (), 2) == {"x": INF, "a": 1.0, "b": 1.0, "y": INF}


def residual_network(layers: int, seed: int = 0) -> Problem:
    """Blocks with a way around them; obstacles at random, so that the side changes often."""
    rng = np.random.default_rng(seed)
    nodes = {"x": (0.0, INF)}
    crossings = []
    for i in range(layers):
        nodes[f"n{i}"] = (float(rng.random()), INF if rng.random() < 0.1 else float(rng.random()) / 4)
        feeds = ["x" if i == 0 else f"n{i - 1}", *([f"n{i - 4}"] if i % 4 == 3 and i > 3 else [])]
        crossings += [Crossing(feed, (f"n{i}",), *(float(c) for c in rng.random(2) / 10)) for feed in feeds]
    return Problem(nodes, tuple(crossings))


@pytest.mark.parametrize("limit", [None, 2, 6])
def test_two_hundred_nodes_take_less_than_a_second(limit: int | None) -> None:
    problem = residual_network(199)
    begin = time.process_time()
    answer = solve(problem, limit)
    took = time.process_time() - begin
    assert answer.exact
    assert took < 1
    begin = time.process_time()
    extra = forced(problem, answer.chip, limit)
    assert len(extra) == 200
    assert time.process_time() - begin < 3
    for name in list(extra)[1::50]:  # the same by solving again
        other = problem.pinned(host=[name]) if name in answer.chip else problem.pinned(chip=[name])
        try:
            again = solve(other, limit).cost - answer.cost
        except HsnnError:
            again = INF
        assert extra[name] == pytest.approx(again, abs=1e-9)


def test_where_there_is_too_much_to_remember_it_searches(monkeypatch: pytest.MonkeyPatch) -> None:
    found = []
    for seed in range(8):
        problem = residual_network(40, seed)
        best = solve(problem, 2)
        assert best.exact
        with monkeypatch.context() as patch:
            patch.setattr(bounded, "MOST_STATES", 4)
            patch.setattr(solver, "BEAM", 8 if seed % 2 else 1)
            answer = solve(problem, 2)
            assert forced(problem, answer.chip, 2) == {}
        assert alternations(problem, answer.chip) <= 2
        assert answer.bound == solve(problem).cost < best.cost <= answer.cost == problem.cost(answer.chip)
        assert not answer.exact
        found.append(answer.cost / best.cost)
    assert all(ratio == 1 for ratio in found[1::2])
    assert all(ratio < 1.25 for ratio in found)


def test_a_search_that_finds_nothing_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounded, "MOST_STATES", 0)
    nodes = {"a": (INF, 0.0), "b": (0.0, INF), "c": (INF, 0.0)}
    problem = Problem(nodes, (Crossing("a", ("b",)), Crossing("b", ("c",))))
    with pytest.raises(HsnnError, match="at most 1 times"):
        solve(problem, 1)
    assert solve(problem, 2).chip == {"a", "c"}


def test_a_large_graph_is_asked_only_where_it_crosses() -> None:
    problem = residual_network(solver.MANY + 50)
    answer = solve(problem)
    beside = {name for c in problem.crossed(answer.chip) for name in (c.src, *c.dsts)}
    assert forced(problem, answer.chip).keys() == beside
