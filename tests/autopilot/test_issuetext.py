"""What an issue's text says: front matter, the headings of a form, or nothing; and every mistake with its line."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autopilot.frontmatter import TicketError
from autopilot.sources.issuetext import parse_issue
from schemas.ticket import Ticket
from schemas.values import RiskLevel, Task

OWN: dict[str, Any] = {
    **dict.fromkeys(("assignee", "requester", "requester_id", "created")),
    "id": 12, "title": "Flag tumours", "labels": ("Task", "auto"), "origin": "github:acme/wine", "state": "open",
    "locked": False,
}  # fmt: skip
FORM = """\
### Data

data/cells.csv

### Target column

malignant

### Task

classification

### Metric

_No response_

### Acceptance criteria

```text
metrics.roc_auc_lower >= 0.95
metrics.recall >= 0.90
```

### Risk

medium

### Blocked by

#3, #4

### Budget (USD)

2.5

### Why

The lab needs it.
"""


def parse(text: str) -> Ticket:
    return parse_issue(text, "#12", OWN)


def problems(text: str) -> str:
    with pytest.raises(TicketError) as caught:
        parse(text)
    return caught.value.reason


def test_the_headings_of_a_form() -> None:
    ticket = parse(FORM)
    assert (ticket.id, ticket.title, ticket.origin) == (12, "Flag tumours", "github:acme/wine")
    assert (ticket.data, ticket.target, ticket.task) == ("data/cells.csv", "malignant", Task.CLASSIFICATION)
    assert ticket.metric is None
    assert ticket.acceptance == ("metrics.roc_auc_lower >= 0.95", "metrics.recall >= 0.90")
    assert ticket.risk is RiskLevel.MEDIUM
    assert ticket.blocked_by == (3, 4)
    assert ticket.budget.usd == 2.5
    assert "The lab needs it." in ticket.body


def test_front_matter() -> None:
    ticket = parse("\r\n---\r\ndata: sklearn:wine\r\ntarget: cultivar\r\nblocked_by: [3]\r\n---\r\nWhy.\r\n")
    assert (ticket.data, ticket.target, ticket.blocked_by, ticket.body) == ("sklearn:wine", "cultivar", (3,), "Why.")


def test_free_text_is_a_ticket_without_fields() -> None:
    ticket = parse("Please do something.\n\n## Data\nno field: two hashes")
    assert (ticket.data, ticket.body) == (None, "Please do something.\n\n## Data\nno field: two hashes")


def test_several_blockers_and_tests_as_items() -> None:
    ticket = parse("### Blocked by\n- #3\n- [x] #4\n### Acceptance tests\n* tests/test_a.py")
    assert (ticket.blocked_by, ticket.acceptance_tests) == ((3, 4), ("tests/test_a.py",))


def test_headings_in_code_are_none() -> None:
    assert parse("```\n### Data\ndata/x.csv\n```\n").data is None


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("### Risk\n\nhuge\n", "line 1: `risk` is 'huge', but should be 'low', 'medium' or 'high'"),
        ("x\n\n### Taget\n\nmalignant\n", "line 3: `Taget` is no known field; did you mean `### Target`?"),
        ("### Data\na.csv\n### Data\nb.csv\n", "line 3: `data` is there twice; keep one of the headings"),
        ("### Target\na\nb\n", "line 1: `target` has more than one line; write one value"),
        ("### Labels\nauto\n", "line 1: `labels` is not a field to write here; leave it out: the issue's own counts"),
        ("### Requester\nboss\n", "`requester` is not a field to write here"),
        ("---\nrequester: boss\n---\n", "line 2: `requester` is not a field to write here; leave it out"),
        ("---\ntitle: Other\nlabels: [auto]\n---\n", "line 3: `labels` is not a field to write here"),
        ("---\norigin: github:a/b\n---\n", "`origin` is not a field to write; leave it out: the source"),
        ("---\nrequester_id: 1\n---\n", "`requester_id` is not a field to write; leave it out: the source"),
        ("---\nrisk: low\n", "`file` has no end of its front matter"),
        ("### Budget (minutes)\nmany\n", "line 1: `budget.minutes`"),
        ("### Blocked by\n#12\n", "ticket 12 is blocked by itself"),
    ],
)
def test_mistakes_are_told(text: str, told: str) -> None:
    assert told in problems(text)


@settings(max_examples=50)
@given(
    st.text(max_size=400)
    | st.lists(st.sampled_from([*FORM.splitlines(), "---", "### ", "```", "\u2028"])).map("\n".join)
)
def test_any_text_is_a_ticket_or_a_told_mistake(text: str) -> None:
    try:
        ticket = parse(text)
    except TicketError as problem:
        assert problem.reason  # noqa: PT017  (any text may be one or the other)
    else:
        assert (ticket.id, ticket.title, ticket.labels) == (12, "Flag tumours", ("Task", "auto"))
        assert ticket.requester is None
