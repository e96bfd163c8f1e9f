"""The pure decision."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pipeline.graph.decide import Decision, Standing, Wait, decide

GOOD, TOLERATED, BAD = Standing.GOOD, Standing.TOLERATED, Standing.BAD
F = frozenset


def test_ready_stages_start_in_order_while_slots_are_free() -> None:
    """A stage whose need is not done waits."""
    waiting = {"a": Wait(), "b": Wait(), "c": Wait(), "d": Wait(needs=F({"a"}))}

    assert decide(waiting, {}, {"x": Wait()}, slots=3, keep_going=True) == Decision(start=["a", "b"])


def test_a_light_stage_passes_one_that_does_not_fit() -> None:
    """Room that is there is used."""
    waiting = {"heavy": Wait(weight=3), "light": Wait()}

    assert decide(waiting, {}, {"x": Wait()}, slots=3, keep_going=True) == Decision(start=["light"])


def test_a_stage_heavier_than_all_slots_runs_alone() -> None:
    """It starts on an idle machine, and nothing beside it."""
    waiting = {"huge": Wait(weight=99), "light": Wait()}

    assert decide(waiting, {}, {}, slots=2, keep_going=True) == Decision(start=["huge"])
    assert decide({"light": Wait()}, {}, {"huge": Wait(weight=99)}, slots=2, keep_going=True) == Decision()


def test_of_an_exclusive_group_one_runs() -> None:
    """Both among those starting now and those running."""
    waiting = {"a": Wait(exclusive="db"), "b": Wait(exclusive="db"), "c": Wait(exclusive="net"), "d": Wait()}

    assert decide(waiting, {}, {}, slots=9, keep_going=True).start == ["a", "c", "d"]
    assert decide(waiting, {}, {"x": Wait(exclusive="db")}, slots=9, keep_going=True).start == ["c", "d"]


def test_a_failure_travels_one_step_a_call_when_others_go_on() -> None:
    """The skipped stage is reported with the one it waited for in vain; the unrelated one starts."""
    waiting = {"scan": Wait(needs=F({"build"})), "push": Wait(after=F({"scan"})), "docs": Wait()}

    first = decide(waiting, {"build": BAD}, {}, slots=2, keep_going=True)

    assert first == Decision(start=["docs"], skip={"scan": "build"})
    del waiting["scan"], waiting["docs"]
    assert decide(waiting, {"build": BAD, "scan": BAD}, {}, slots=2, keep_going=True) == Decision(
        skip={"push": "scan"}
    )


def test_fail_fast_skips_all_that_waits_on_account_of_the_first_failure() -> None:
    """A stage that waited for another bad one is reported with that one."""
    waiting = {"docs": Wait(), "scan": Wait(needs=F({"build"}))}

    found = decide(waiting, {"unit": BAD, "build": BAD}, {"x": Wait()}, slots=4, keep_going=False)

    assert found == Decision(skip={"docs": "unit", "scan": "build"})


def test_a_tolerated_stage_lets_those_after_it_go_on_but_has_no_result_to_give() -> None:
    """Fail-fast does not count it."""
    waiting = {"after": Wait(after=F({"lint"})), "needs": Wait(needs=F({"lint"}))}

    found = decide(waiting, {"lint": TOLERATED}, {}, slots=4, keep_going=False)

    assert found == Decision(start=["after"], skip={"needs": "lint"})


def test_a_stage_waits_for_what_it_may_run_despite_and_then_goes_on() -> None:
    """However that one ended; what else it comes after still counts."""
    waiting = {"scan": Wait(despite=F({"image"})), "report": Wait(despite=F({"image"}), after=F({"image"}))}

    assert decide(waiting, {}, {"image": Wait()}, slots=4, keep_going=True) == Decision()
    assert decide(waiting, {"image": BAD}, {}, slots=4, keep_going=True) == Decision(
        start=["scan"], skip={"report": "image"}
    )


@st.composite
def graphs(draw: st.DrawFn) -> dict[str, Wait]:
    """Graphs of up to twelve stages, each waiting for earlier ones."""
    count = draw(st.integers(1, 12))
    waiting = {}
    for index in range(count):
        [f"s{i}" for i in range(index)]
        earlier = (
            st.frozensets(st.sampled_from([f"s{i}" for i in range(index)]), max_size=3)
            if index
            else st.just(F())
        )
        waiting[f"s{index}"] = Wait(
            needs=draw(earlier),
            after=draw(earlier),
            despite=draw(earlier),
            weight=draw(st.integers(1, 5)),
            exclusive=draw(st.sampled_from([None, None, "db", "net"])),
        )
    return waiting


@given(graphs(), st.integers(1, 4), st.booleans(), st.data())
def test_every_graph_comes_to_an_end_within_its_bounds(
    waiting: dict[str, Wait], slots: int, keep_going: bool, data: st.DataObject
) -> None:
    """No deadlock; never more weight than slots; never two of a group; nothing before what it needs."""
    waits = dict(waiting)
    running: dict[str, Wait] = {}
    done: dict[str, Standing] = {}
    while waiting or running:
        decision = decide(waiting, done, running, slots=slots, keep_going=keep_going)
        for name in decision.start:
            assert all(done[need] is GOOD for need in waits[name].needs)
            assert all(done[other] is not BAD for other in waits[name].after)
            assert waits[name].despite <= done.keys()
            running[name] = waiting.pop(name)
        for name, culprit in decision.skip.items():
            del waiting[name]
            done[name] = done[culprit]
        assert decision.start or decision.skip or running
        assert sum(min(wait.weight, slots) for wait in running.values()) <= slots
        groups = [wait.exclusive for wait in running.values() if wait.exclusive]
        assert len(groups) == len(set(groups))
        if running and not decision.skip:
            name = data.draw(st.sampled_from(sorted(running)))
            del running[name]
            done[name] = data.draw(st.sampled_from([GOOD, GOOD, TOLERATED, BAD]))
    assert done.keys() == waits.keys()
