"""Tickets as people write them: what is taken, and what every mistake is answered with."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from autopilot import plainyaml
from autopilot.frontmatter import REMEDIES, TicketError, parse_ticket
from autopilot.plainyaml import MAX_BYTES
from schemas.ticket import Budget, Ticket
from schemas.values import RiskLevel, Task

FULL = """\
---
id: 12
title: Flag malignant tumours from cell measurements
labels: [Task, auto, now]
pipeline: ml-delivery          # the default
data: data/cells.csv
target: malignant
task: classification
metric: roc_auc
groups: patient_id
acceptance:
  - metrics.roc_auc_lower >= 0.95
  - metrics.recall >= 0.90
risk: medium
blocked_by: [11]
budget: {usd: 5, minutes: 10}
requester: alice
created: 2026-11-01T09:00:00Z
---
Free text: why, for whom.

---
A rule in the text is no end.
"""


@pytest.fixture(params=["C", "Python"], autouse=True)
def loader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """PyYAML comes with and without its C part; both must read the same."""
    if request.param == "Python":
        monkeypatch.setattr(plainyaml, "_Loader", yaml.SafeLoader)


def ticket(front: str, body: str = "") -> Ticket:
    return parse_ticket(f"---\n{front}\n---\n{body}", "12.md")


def wrong(front: str) -> str:
    with pytest.raises(TicketError) as caught:
        ticket(f"id: 1\ntitle: T\n{front}")
    return str(caught.value)


def test_every_field() -> None:
    assert parse_ticket(FULL, "12.md") == Ticket(
        id=12,
        title="Flag malignant tumours from cell measurements",
        labels=("Task", "auto", "now"),
        data="data/cells.csv",
        target="malignant",
        task=Task.CLASSIFICATION,
        metric="roc_auc",
        groups="patient_id",
        acceptance=("metrics.roc_auc_lower >= 0.95", "metrics.recall >= 0.90"),
        risk=RiskLevel.MEDIUM,
        blocked_by=(11,),
        budget=Budget(usd=5, minutes=10),
        requester="alice",
        created=datetime(2026, 11, 1, 9, tzinfo=UTC),
        body="Free text: why, for whom.\n\n---\nA rule in the text is no end.",
    )


def test_every_field_has_a_remedy() -> None:
    assert set(REMEDIES) == set(Ticket.model_fields) - {"body"} | {"file"}


@pytest.mark.parametrize("form", [FULL.replace("\n", "\r\n"), FULL.replace("\n", "\r"), "\ufeff" + FULL])
def test_line_ends_and_byte_order_marks_do_not_matter(form: str) -> None:
    assert parse_ticket(form, "12.md") == parse_ticket(FULL, "12.md")


def test_two_fields_are_enough() -> None:
    assert ticket("id: 1\ntitle: T") == Ticket(id=1, title="T")


def test_a_single_value_is_a_list_of_one() -> None:
    made = ticket("id: 1\ntitle: T\nlabels: auto\nblocked_by: 7\nacceptance: metrics.recall >= 0.9")
    assert (made.labels, made.blocked_by, made.acceptance) == (("auto",), (7,), ("metrics.recall >= 0.9",))
    made = ticket('id: 1\ntitle: T\nlabels: Task, auto\nblocked_by: "#7, #8"')
    assert (made.labels, made.blocked_by) == (("Task", "auto"), (7, 8))


def test_a_field_without_value_counts_as_left_out() -> None:
    assert ticket("id: 1\ntitle: T\nlabels:\nrisk: ~\ngroups: # none\ndata: null") == Ticket(id=1, title="T")


def test_text_stays_text() -> None:
    made = ticket("id: 012\ntitle: 2026-11-01\nrequester: no\ntarget: 1e3\ngroups: on\nlabels: [yes, 1]\nassignee: 0x1")
    assert (made.id, made.title, made.requester, made.target) == (12, "2026-11-01", "no", "1e3")
    assert (made.groups, made.labels, made.assignee) == ("on", ("yes", "1"), "0x1")


@pytest.mark.parametrize(
    ("front", "message"),
    [
        ("risk: huge", "12.md: line 4: `risk` is 'huge', but should be 'low', 'medium' or 'high'; write `risk: low`"),
        ("taget: x", "line 4: `taget` is no known field; did you mean `target`?"),
        ("Labels: [a]", "`Labels` is no known field; did you mean `labels`?"),
        ("blocked-by: [2]", "did you mean `blocked_by`?"),
        ("colour: red", "`colour` is no known field; known fields are acceptance, "),
        ("budget: {dollars: 5}", "`budget.dollars` is no known field; known fields are minutes, search_seconds, usd"),
        ("budget:\n  usd: 5\n  minuts: 5", "line 6: `budget.minuts` is no known field; did you mean `minutes`?"),
        ("budget: {usd: 0}", "`budget.usd` is '0', but should be greater than 0; write upper limits above zero"),
        ("budget: {usd: nan}", "`budget.usd` is 'nan', but should be"),
        ("budget: {search_seconds: 400}", "search_seconds is 400, more than a quarter of the 10 minutes"),
        ("budget: 5", "line 4: `budget` is '5', but should be a valid dictionary"),
        ("metric: auc", "line 4: `metric` is wrong: unknown metric 'auc'; one of roc_auc, "),
        ("task: regression\nmetric: f1", "line 5: `metric` is wrong: metric 'f1' is not for regression; one of mae"),
        ("blocked_by: [1]", "line 4: `blocked_by` is wrong: ticket 1 is blocked by itself"),
        ("blocked_by:\n  - 7\n  - seven", "line 6: `blocked_by[2]` is 'seven', but should be a valid integer"),
        ("blocked_by: #7", "line 4: `blocked_by` is empty; write the number without `#`, which begins a comment"),
        ("created: 2026-11-01T09:00:00", "line 4: `created` is wrong: needs a time zone"),
        ("created: yesterday", "line 4: `created` is 'yesterday', but should be a valid datetime"),
        ("state: done", "`state` is 'done', but should be 'open' or 'closed'; write `state: open`"),
        ("pipeline: ML Delivery", "`pipeline` is 'ML Delivery', but "),
        ("labels: {a: b}", "line 4: `labels` should be a valid tuple; write a list"),
        ("acceptance:\n  - metrics.recall: 0.9", "line 5: `acceptance[1]` should be a valid string; write a list"),
        ("body: text", "`body` is not a field; write it below the front matter"),
        ("risk: low\nrisk: high", "line 5: `risk` is written twice (first in line 4); keep one of the two"),
        ("budget: {usd: 1, usd: 2}", "line 4: `budget.usd` is written twice"),
        ("labels: &a [x]", "line 4: `file` uses a YAML anchor or alias, which is not allowed"),
        ("labels: *a", "line 4: `file` uses a YAML anchor or alias"),
        ("title2: !!python/object/apply:os.system [x]", "line 4: `file` uses the YAML tag"),
        ("data: sql: select", "line 4: `file` is not valid YAML (mapping values are not allowed"),
        ("labels: [a", "is not valid YAML ("),
        ("\trisk: low", "use spaces instead of tabs"),
        ("? [a]\n: b", "has a field name that is no text"),
        ("labels: " + "[" * 30 + "]" * 30, "`file` is nested too deeply"),
    ],
)
def test_mistakes_are_answered(front: str, message: str) -> None:
    assert message in wrong(front)


def test_all_mistakes_are_told_at_once_in_their_order() -> None:
    with pytest.raises(TicketError) as caught:
        ticket("risk: huge\nlabels: [Task]\nowner: me")
    assert [problem.field for problem in caught.value.problems] == ["id", "title", "risk", "owner"]
    assert "`id` is missing; give the ticket a whole number" in caught.value.reason
    assert caught.value.source == "12.md"


@pytest.mark.parametrize("number", ["0", "-1", "1.5", "one", "[1]", ""])
def test_the_id_is_a_positive_whole_number(number: str) -> None:
    with pytest.raises(TicketError, match="`id`"):
        ticket(f"id: {number}\ntitle: T")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "does not begin with front matter; begin with a line `---`"),
        ("# A title\n", "does not begin with front matter"),
        ("---\nid: 1\ntitle: T\n", "has no end of its front matter; close it with a line `---`"),
        ("---\n- a\n- b\n---\n", "is no list of `field: value` lines"),
        ("---\njust text\n---\n", "is no list of `field: value` lines"),
        ("---\n---\n", "`id` is missing"),
        ("---\nid: 1\ntitle: T\n---\n" + "x" * MAX_BYTES, "is larger than 256 kB"),
    ],
)
def test_texts_that_are_no_tickets(text: str, message: str) -> None:
    with pytest.raises(TicketError) as caught:
        parse_ticket(text, "x.md")
    assert message in str(caught.value)


def test_an_alias_bomb_costs_nothing() -> None:
    bomb = "a: &a [x,x,x,x,x,x,x,x,x]\n" + "".join(
        f"{chr(98 + n)}: &{chr(98 + n)} [{','.join(['*' + chr(97 + n)] * 9)}]\n" for n in range(9)
    )
    with pytest.raises(TicketError, match="anchor or alias"):
        ticket(bomb)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(st.sampled_from("ab:-#[]{}&*!|>'\"%@`,?\n\t ~0\u2028\x00é"), max_size=60))
def test_any_text_is_a_ticket_or_a_ticket_error(text: str) -> None:
    for front in (text, f"id: 1\ntitle: T\n{text}"):
        with contextlib.suppress(TicketError):
            ticket(front)
