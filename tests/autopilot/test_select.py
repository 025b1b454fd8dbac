"""The Auto-Pilot rules: each rule by example, and what must hold for any backlog."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autopilot.select import Load, Selection, TicketHistory, full, priority, select
from autopilot.sources.port import Entry, Labeller, Snapshot
from cli.selecting import unfit
from schemas.policy import Policy
from schemas.ticket import Ticket
from schemas.values import RiskLevel

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def ticket(number: int, *labels: str, days: float | None = 0.0, **fields: Any) -> Ticket:
    """An eligible ticket, `days` old, with further labels and fields."""
    created = None if days is None else NOW - timedelta(days=days)
    data = {"id": number, "title": f"Ticket {number}", "labels": ("Task", "auto", *labels), "created": created}
    return Ticket.model_validate(data | fields)


def snapshot(*tickets: Ticket) -> Snapshot:
    return Snapshot("test", {t.id: Entry(t, digest(t.id), NOW, f"{t.id}.md") for t in tickets})


def digest(number: int) -> str:
    return f"{number:064x}"


def choose(*tickets: Ticket, policy: Policy | None = None, **history: TicketHistory) -> Selection:
    """`history` is by `t<number>`."""
    past = {int(name[1:]): value for name, value in history.items()}
    return select(snapshot(*tickets), policy or Policy(), past, NOW)


def why(selection: Selection, number: int) -> str:
    assert number not in selection.order
    return selection.passed_over[number]


# --- eligibility -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"state": "closed"}, "closed"),
        ({"locked": True}, "locked"),
        ({"assignee": "bob"}, "assigned to bob, who works on it by hand"),
        ({"labels": ("Task",)}, "not labelled `auto`"),
        ({"labels": ("auto", "now")}, "not labelled `Task`"),
        ({"labels": ()}, "not labelled `Task` and `auto`"),
        ({"labels": ("Task", "auto", "HOLD")}, "held by its label `hold`"),
        ({"risk": "high"}, "its risk is high, and the policy allows at most medium"),
        ({"blocked_by": (99,)}, "blocked by ticket 99, which is not in the backlog or cannot be read"),
    ],
)
def test_what_makes_a_ticket_unfit(fields: dict[str, Any], reason: str) -> None:
    selection = choose(ticket(1, **fields), ticket(2), policy=Policy(max_risk=RiskLevel.MEDIUM))
    assert selection.order == (2,)
    assert why(selection, 1) == f"passed over: {reason}"


@pytest.mark.parametrize("labels", [("task", "AUTO"), ("TASK", "Auto", "now"), ("Task", "auto", "unknown")])
def test_labels_are_compared_without_case(labels: tuple[str, ...]) -> None:
    assert choose(ticket(1, labels=labels)).order == (1,)


@pytest.mark.parametrize(
    ("past", "reason"),
    [
        (TicketHistory(session="s1-abcde", status="waiting"), "session s1-abcde already serves it (waiting)"),
        (TicketHistory(session="s1-abcde"), "session s1-abcde already serves it (open)"),
        (TicketHistory(branch="phase/x"), "the branch phase/x already serves it; delete or rename it to start afresh"),
        (
            TicketHistory(completed=frozenset({digest(1)})),
            "completed by an earlier session; edit the ticket to have it done again",
        ),
        (
            TicketHistory(failures={digest(1): 2}),
            "failed 2 times since its last edit (limit 2); edit the ticket to try again",
        ),
    ],
)
def test_what_already_happened_counts(past: TicketHistory, reason: str) -> None:
    assert why(choose(ticket(1), t1=past), 1) == f"passed over: {reason}"


def test_an_edit_gives_another_chance() -> None:
    past = TicketHistory(completed=frozenset({digest(7)}), failures={digest(7): 5, digest(1): 1})
    assert choose(ticket(1), t1=past).order == (1,)
    assert "failed once" in why(choose(ticket(1), t1=past, policy=Policy(max_failures=1)), 1)


def test_blocked_until_the_blocker_is_done() -> None:
    blocked = ticket(1, blocked_by=(2, 3))
    assert why(choose(blocked, ticket(2), ticket(3)), 1) == "passed over: blocked by ticket 2, which is open"
    one_done = choose(blocked, ticket(2, state="closed"), ticket(3))
    assert why(one_done, 1) == "passed over: blocked by ticket 3, which is open"
    done = TicketHistory(completed=frozenset({digest(3)}))
    assert choose(blocked, ticket(2, state="closed"), ticket(3), t3=done).order == (1,)
    edited = TicketHistory(completed=frozenset({digest(9)}))
    assert 1 in choose(blocked, ticket(2, state="closed"), ticket(3), t3=edited).passed_over


def test_a_blocker_need_not_be_for_auto_pilot() -> None:
    assert "blocked by ticket 2, which is open" in why(choose(ticket(1, blocked_by=(2,)), ticket(2, labels=())), 1)


def test_circles_are_parked_and_named() -> None:
    selection = choose(
        ticket(3, blocked_by=(5,)),
        ticket(5, blocked_by=(8,)),
        ticket(8, blocked_by=(3,)),
        ticket(9, blocked_by=(8,)),
        ticket(10),
    )
    assert selection.order == (10,)
    for number in (3, 5, 8):
        assert (
            why(selection, number) == "passed over: blocked in a circle (3 → 5 → 8 → 3); remove one `blocked_by` of it"
        )
    assert why(selection, 9) == "passed over: blocked by ticket 8, which is open"


def test_two_that_wait_for_each_other_are_a_circle() -> None:
    assert "(1 → 2 → 1)" in why(choose(ticket(1, blocked_by=(2,)), ticket(2, blocked_by=(1,))), 2)


def test_a_closed_ticket_breaks_a_circle() -> None:
    selection = choose(ticket(3, blocked_by=(5,)), ticket(5, blocked_by=(3,), state="closed"))
    assert selection.order == (3,)


def test_a_long_circle_is_shown_in_short() -> None:
    selection = choose(*(ticket(n, blocked_by=(n % 30 + 1,)) for n in range(1, 31)))
    assert "(1 → 2 → 3 → 4 → 5 → 6 → 7 → 8 → 9 → 10 → … → 1)" in why(selection, 17)


# --- order -----------------------------------------------------------------------------------------------------------


def test_priority_labels_come_first() -> None:
    order = choose(ticket(1, "future"), ticket(2, "next"), ticket(3, "NOW"), ticket(4)).order
    assert order == (3, 2, 1, 4)
    assert choose(ticket(1, "future", "now"), ticket(2, "next")).order == (1, 2)


@pytest.mark.parametrize(
    ("label", "days", "level"),
    [
        ("now", 0, 0),
        ("next", 0, 1),
        ("next", 700, 1),
        ("future", 6.99, 2),
        ("future", 7, 1),
        ("future", 700, 1),
        ("other", 6.99, 2),
        ("other", 7, 1),
        ("future", -30, 2),
        ("future", None, 2),
    ],
)
def test_age_promotes_but_never_to_now(label: str, days: float | None, level: int) -> None:
    assert priority(ticket(1, label, days=days), NOW) == level


def test_then_what_unblocks_most_then_risk_then_age_then_number() -> None:
    selection = choose(
        ticket(1, risk="high", days=6),
        ticket(2, risk="medium", days=6),
        ticket(3, days=5),
        ticket(4, days=6),
        ticket(5, days=6),
        ticket(6, days=None),
        ticket(7, risk="high"),
        ticket(11, labels=(), blocked_by=(7,)),
        ticket(12, labels=(), blocked_by=(11,)),
    )
    assert selection.order == (7, 4, 5, 3, 6, 2, 1)


def test_unblocking_counts_through_others_and_each_once() -> None:
    diamond = [ticket(2), ticket(20, blocked_by=(2,)), ticket(21, blocked_by=(2,)), ticket(22, blocked_by=(20, 21))]
    row = [ticket(1), *(ticket(n, blocked_by=(1,)) for n in (10, 11, 12))]
    assert choose(*diamond, *row).order == (1, 2)  # three wait for each: not four for the diamond
    assert choose(*diamond, *row[:-1]).order == (2, 1)
    closed = [ticket(1), ticket(10, blocked_by=(1,), state="closed"), ticket(2), ticket(20, blocked_by=(2,))]
    assert choose(*closed).order == (2, 1)


# --- any backlog -----------------------------------------------------------------------------------------------------

Case = tuple[list[Ticket], dict[int, TicketHistory], Policy]
ROWS = st.lists(
    st.tuples(
        st.sampled_from([(), ("now",), ("next",), ("future",), ("hold",), ("next", "now"), None]),
        st.sampled_from([None, -3, 0, 3, 7, 20]),
        st.sampled_from(list(RiskLevel)),
        st.sampled_from(["open", "open", "open", "closed"]),
        st.lists(st.integers(1, 6), max_size=2),
        st.sampled_from([None, None, None, "completed", "session", "failed", "failed once"]),
    ),
    max_size=6,
)


def case(rows: list[Any], max_risk: RiskLevel) -> Case:
    """Tickets 1, 2 … from drawn rows; links may lead to tickets that are not there, and in circles."""
    tickets, history = [], {}
    for number, (labels, days, risk, state, links, past) in enumerate(rows, start=1):
        blockers = tuple(link for link in links if link != number)
        base = ticket(number, *(labels or ()), days=days, risk=risk, state=state, blocked_by=blockers)
        tickets.append(base if labels is not None else base.model_copy(update={"labels": ("Task",)}))
        if past:
            history[number] = TicketHistory(
                completed=frozenset({digest(number)} if past == "completed" else ()),
                failures={digest(number): {"failed": 2, "failed once": 1}.get(past, 0)},
                session="s1" if past == "session" else None,
            )
    return tickets, history, Policy(max_risk=max_risk)


def backlogs() -> st.SearchStrategy[Case]:
    return st.builds(case, ROWS, st.sampled_from(list(RiskLevel)))


@settings(max_examples=150)
@given(backlog=backlogs(), seed=st.randoms(use_true_random=False))
def test_the_order_of_the_input_does_not_matter(backlog: Case, seed: random.Random) -> None:
    tickets, history, policy = backlog
    expected = select(snapshot(*tickets), policy, history, NOW)
    shuffled = list(tickets)
    seed.shuffle(shuffled)
    past = dict(reversed(history.items()))
    assert select(snapshot(*shuffled), policy, past, NOW) == expected


@settings(max_examples=150)
@given(backlog=backlogs())
def test_every_ticket_is_taken_or_passed_over_and_nothing_unfit_is_taken(backlog: Case) -> None:
    tickets, history, policy = backlog
    by_number = {t.id: t for t in tickets}
    selection = select(snapshot(*tickets), policy, history, NOW)
    assert sorted([*selection.order, *selection.passed_over]) == sorted(by_number)
    assert all(len(reason) > len("passed over: ") for reason in selection.passed_over.values())
    for number in selection.order:
        chosen, past = by_number[number], history.get(number, TicketHistory())
        assert chosen.state == "open"
        assert {"Task", "auto"} <= set(chosen.labels)
        assert "hold" not in chosen.labels
        assert chosen.risk.rank <= policy.max_risk.rank
        assert past.session is None
        assert digest(number) not in past.completed
        assert past.failures.get(digest(number), 0) < policy.max_failures
        for blocker in chosen.blocked_by:  # so also: never before its blocker, never in a circle
            done = digest(blocker) in history.get(blocker, TicketHistory()).completed
            assert by_number[blocker].state == "closed" or done


@settings(max_examples=100)
@given(backlog=backlogs())
def test_circles_are_exactly_what_blocks_itself(
    backlog: Case,
) -> None:
    """Against the plain definition: a ticket is in a circle if it can be reached from its own open blockers."""
    tickets = [t.model_copy(update={"labels": ("Task", "auto"), "risk": RiskLevel.LOW}) for t in backlog[0]]
    links = {t.id: list(t.blocked_by) for t in tickets if t.state == "open"}

    def reach(number: int) -> set[int]:
        seen: set[int] = set()
        todo = list(links.get(number, []))
        while todo:
            here = todo.pop()
            if here not in seen and here in links:
                seen.add(here)
                todo += links[here]
        return seen

    selection = select(snapshot(*tickets), Policy(), {}, NOW)
    named = {number for number, reason in selection.passed_over.items() if "circle" in reason}
    assert named == {number for number in links if number in reach(number)}


@settings(max_examples=100)
@given(backlog=backlogs(), later=st.integers(7, 400), stream=st.integers(1, 30))
def test_nothing_starves(backlog: Case, later: int, stream: int) -> None:
    """A week later no newcomer overtakes a ticket for its `next` label alone, however many keep coming."""
    tickets, history, policy = backlog
    moment = NOW + timedelta(days=later)
    newcomers = [
        ticket(100 + n, "next", days=-later).model_copy(update={"created": moment, "risk": RiskLevel.LOW})
        for n in range(stream)
    ]
    selection = select(snapshot(*tickets, *newcomers), policy, history, moment)
    by_number = {t.id: t for t in tickets}
    for number in (n for n in selection.order if n < 100):
        created = by_number[number].created
        if created is not None and created <= NOW and by_number[number].risk is RiskLevel.LOW:
            assert [n for n in selection.order[: selection.order.index(number)] if n >= 100] == []


def test_ten_thousand_tickets_in_a_moment() -> None:
    """Anything quadratic takes minutes here and meets the limit that ends a test that hangs."""
    count = 10_000
    chain = [
        Ticket.model_construct(id=n, title="t", labels=("Task", "auto"), blocked_by=(n - 1,))
        for n in range(2, count + 1)
    ]
    circle = [t.model_copy(update={"blocked_by": (t.id % count + 1,)}) for t in chain]
    fan = [t.model_copy(update={"blocked_by": () if t.id <= count // 2 else (t.id - count // 2,)}) for t in chain]
    for tickets in (chain, circle, fan):
        first = tickets[0].model_copy(update={"id": 1, "blocked_by": (2,) if tickets is circle else ()})
        state = snapshot(first, *tickets)
        selection = select(state, Policy(), {}, NOW)
        assert len(selection.order) == {id(chain): 1, id(circle): 0, id(fan): count // 2}[id(tickets)]


# --- pipelines that cannot take a ticket -----------------------------------------------------------------------------


def test_a_ticket_its_pipeline_cannot_take_is_passed_over_with_that_reason() -> None:
    selection = select(snapshot(ticket(1), ticket(2)), Policy(), {}, NOW, {1: "its criteria are judged nowhere"})
    assert selection.order == (2,)
    assert why(selection, 1) == "passed over: its criteria are judged nowhere"


def test_only_criteria_of_the_ticket_itself_need_a_pipeline_that_judges_them(tmp_path: Path) -> None:
    criteria = ("metrics.recall >= 0.9",)
    tickets = {
        1: ticket(1, pipeline="data-onboarding", acceptance=criteria),
        2: ticket(2, pipeline="data-onboarding"),
        3: ticket(3, acceptance=criteria),
        4: ticket(4, pipeline="there-is-none", acceptance=criteria),
    }
    (reason,) = (found := unfit(tickets, tmp_path)).values()
    assert set(found) == {1}
    assert reason.startswith("pipeline 'data-onboarding' judges no acceptance criteria (no phase has `acceptance: tru")


# --- what forges know besides ----------------------------------------------------------------------------------------


ROLE_NAMES = ("none", "read", "triage", "write", "maintain", "admin")
LABELLERS = st.one_of(st.none(), st.builds(Labeller, st.just("ann"), st.sampled_from(ROLE_NAMES), st.booleans()))


@settings(max_examples=200)
@given(
    who=st.fixed_dictionaries({"task": LABELLERS, "auto": LABELLERS}),
    editor=LABELLERS,
    asked=st.sampled_from(ROLE_NAMES[1:]),
)
def test_labels_count_exactly_when_who_set_them_and_who_edited_since_may_label(
    who: dict[str, Labeller | None], editor: Labeller | None, asked: Any
) -> None:
    labellers = {name: each for name, each in who.items() if each is not None}
    entry = Entry(ticket(1), digest(1), NOW, "#1", labellers=labellers, editors=(editor,) if editor else ())
    selection = select(Snapshot("test", {1: entry}), Policy(label_permission=asked), {}, NOW)

    def may(each: Labeller) -> bool:
        return ROLE_NAMES.index(each.role) >= ROLE_NAMES.index(asked)

    labelled = len(labellers) == 2 and all(may(each) and not each.own for each in labellers.values())
    assert (selection.order == (1,)) is (labelled and (editor is None or editor.own or may(editor)))


def test_what_holds_an_issue_back() -> None:
    def said(past: TicketHistory | None = None, **more: Any) -> str:
        entry = Entry(ticket(1), digest(1), NOW, "#1", **more)
        return why(select(Snapshot("test", {1: entry}), Policy(), {1: past} if past else {}, NOW), 1)

    assert "blocked by acme/other#3, which is open" in said(waits_for="acme/other#3")
    assert "assigned to train[bot], so another Auto-Pilot took it" in said(claimed="train[bot]")
    assert "session s1 already serves it" in said(TicketHistory(session="s1"), claimed="train[bot]")
    assert "pull request #7 by eve already serves it; close it to start afresh" in said(
        TicketHistory(pull="pull request #7 by eve", branch="x")
    )


# --- limits ----------------------------------------------------------------------------------------------------------


@settings(max_examples=200)
@given(
    wip=st.integers(1, 4),
    per_repository=st.none() | st.integers(1, 3),
    pulls=st.none() | st.integers(1, 5),
    steps=st.lists(
        st.tuples(st.sampled_from(["start", "gate", "go on", "end", "merge"]), st.integers(0, 2)), max_size=40
    ),
)
def test_no_limit_is_ever_exceeded(
    wip: int, per_repository: int | None, pulls: int | None, steps: list[tuple[str, int]]
) -> None:
    """Sessions start wherever there is room; each opens one pull request, and one at a gate frees its place. Only what
    was started counts against a limit: who goes on after a gate is not held back, and no start makes it worse."""
    policy = Policy(wip_per_repository=per_repository, max_open_pull_requests=pulls)
    working: list[int] = []
    waiting: list[int] = []
    opened = 0
    for what, place in steps:
        if what == "start":
            load = Load(len(working), working.count(place), opened)
            if full(policy, wip, load) is None:
                working.append(place)
                opened += 1
                assert len(working) <= wip
                assert per_repository is None or working.count(place) <= per_repository
                assert pulls is None or opened <= pulls
            else:
                assert (
                    len(working) >= wip
                    or (per_repository is not None and working.count(place) >= per_repository)
                    or (pulls is not None and opened >= pulls)
                )
        elif what == "gate" and working:
            waiting.append(working.pop())
        elif what == "go on" and waiting:
            working.append(waiting.pop())
        elif what == "end" and working:
            working.pop()
        elif what == "merge" and opened:
            opened -= 1
