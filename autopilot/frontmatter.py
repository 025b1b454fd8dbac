"""A ticket from Markdown with YAML front matter, or every reason why it is none."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from autopilot.plainyaml import MAX_BYTES, Document, Problem, Unreadable, problems_of, read
from schemas.ticket import CLASSIFICATION_METRICS, REGRESSION_METRICS, Ticket

REMEDIES = {
    "id": "give the ticket a whole number from 1 that no other ticket has, for example `id: 12`",
    "title": "say in at most 300 characters what is wanted, for example `title: Flag malignant tumours`",
    "labels": "write a list, for example `labels: [Task, auto, now]`",
    "pipeline": "name a pipeline, for example `pipeline: ml-delivery`, or leave the line out",
    "data": "name a file or data set, for example `data: data/cells.csv` or `data: sklearn:breast_cancer`",
    "target": "name the column to predict, for example `target: malignant`",
    "task": "write `task: classification` or `task: regression`, or leave the line out",
    "metric": f"write one of {', '.join(CLASSIFICATION_METRICS)} (classification) or "
    f"{', '.join(REGRESSION_METRICS)} (regression), or leave the line out",
    "groups": "name the column whose values must not be split, for example `groups: patient_id`",
    "time": "name the column with the time, for example `time: visited_at`",
    "acceptance": "write a list of comparisons, for example `- metrics.roc_auc_lower >= 0.95`",
    "risk": "write `risk: low`, `risk: medium` or `risk: high`",
    "blocked_by": "write a list of other tickets' numbers, for example `blocked_by: [11, 14]`",
    "budget": "write upper limits above zero, for example `budget: {usd: 5, minutes: 10}`",
    "requester": "name the person who asks for this, for example `requester: alice`",
    "assignee": "name the person who works on this by hand, or leave the line out",
    "model": "name the package of the model in use, for example `model: models/model-package.zip`",
    "package": "name the delivered package to release, for example `package: delivery/model-package.zip`",
    "state": "write `state: open` or `state: closed`",
    "locked": "write `locked: true` or `locked: false`",
    "change": "name a patch file below the backlog folder, for example `change: patches/12.patch`",
    "repository": "name a git repository below one of the policy's `repository_roots`, or leave the line out",
    "acceptance_tests": "write a list of test files below the backlog folder, for example `- tests/test_12.py`",
    "sensitive": "write a list of columns that make groups of people, for example `sensitive: [sex, age]`",
    "reuse": "write `reuse: false` to choose inputs without what earlier sessions found, or leave the line out",
    "checkout": "leave it out: the drive sets it, to the commit it starts from",
    "origin": "leave it out: the source of the ticket sets it",
    "requester_id": "leave it out: the source of the ticket sets it",
    "labeller_id": "leave it out: the source of the ticket sets it",
    "snapshot": "leave it out: it is set when the rows were read",
    "created": "write date, time and zone, for example `created: 2026-11-01T09:00:00Z`",
    "file": "begin with a line `---`, then `field: value` lines, then another line `---`, then the free text",
}
NOT_WRITTEN = frozenset({"checkout", "origin", "requester_id", "labeller_id", "snapshot"})
"""Fields of a ticket that the system sets; an author who writes one is told so."""
OWN_REMEDY = "leave it out: the issue's own counts"
_FENCE = re.compile(r"^(---|\.\.\.)[ \t]*$")


class TicketError(ValueError):
    """A text that is no ticket. `problems` names each field with reason, remedy and line."""

    def __init__(self, source: str, problems: list[Problem]) -> None:
        self.source = source
        self.problems = tuple(problems)
        super().__init__(f"{source}: " + " · ".join(str(problem) for problem in problems))

    @property
    def reason(self) -> str:
        """The problems without the source, on one line."""
        return " · ".join(str(problem) for problem in self.problems)


def parse_ticket(text: str, source: str, own: Mapping[str, Any] | None = None) -> Ticket:
    """The ticket in `text` (Markdown, front matter first). `source` names it in errors, for example its file.

    A single value stands for a list of one; `labels` and `blocked_by` may also be separated by commas. A field without
    a value counts as left out. `own` are the values of fields that the source itself knows (an issue's title) and that
    the text may therefore not name. Raises TicketError with all problems found.
    """
    if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        problem = Problem(
            "file", f"is larger than {MAX_BYTES // 1000} kB", "keep data out of the ticket and name its file"
        )
        raise TicketError(source, [problem])
    front, body = split(text, source)
    try:
        document = read(front, first_line=2)
    except Unreadable as error:
        raise TicketError(source, [error.problem]) from error
    return build(document, body, source, _traps(document, front), own)


def build(
    document: Document,
    body: str,
    source: str,
    problems: list[Problem],
    own: Mapping[str, Any] | None = None,
) -> Ticket:
    """The ticket of a document's fields. `problems` are those found so far; `own` as in `parse_ticket`. Raises
    TicketError with all of them."""
    own = own or {}
    for name in sorted((set(own) - NOT_WRITTEN) & set(document.data)):
        problems.append(Problem(name, "is not a field to write here", OWN_REMEDY, document.line((name,))))
    data = {name: friendly(name, value) for name, value in document.data.items() if value is not None}
    try:
        ticket = Ticket.model_validate({**data, "body": body, **own})
    except ValidationError as error:
        problems += problems_of(error, document, Ticket, REMEDIES)
        raise TicketError(source, sorted(problems, key=lambda p: p.line or 0)) from error
    if problems:
        raise TicketError(source, problems)
    return ticket


def split(text: str, source: str) -> tuple[str, str]:
    """Front matter and body. Raises TicketError when there is none, or no end of it."""
    lines = text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n").split("\n")
    if lines[0].rstrip() != "---":
        problem = Problem("file", "does not begin with front matter", REMEDIES["file"], 1)
        raise TicketError(source, [problem])
    for number, line in enumerate(lines[1:], start=1):
        if _FENCE.match(line):
            return "\n".join(lines[1:number]), "\n".join(lines[number + 1 :]).strip("\n")
    raise TicketError(source, [Problem("file", "has no end of its front matter", "close it with a line `---`", 1)])


def _traps(document: Document, front: str) -> list[Problem]:
    """What would be taken in silence and mean something else than its author thinks."""
    found = []
    for name in NOT_WRITTEN & set(document.data):
        found.append(Problem(name, "is not a field to write", REMEDIES[name], document.line((name,))))
    if "body" in document.data:
        remedy = "write it below the front matter, as the file's text"
        found.append(Problem("body", "is not a field", remedy, document.line(("body",))))
    if "blocked_by" in document.data and document.data["blocked_by"] is None:
        line = document.line(("blocked_by",)) or 2
        if re.search(r"blocked_by\s*:\s*#", front.split("\n")[line - 2]):
            remedy = "write the number without `#`, which begins a comment: `blocked_by: [11]`"
            found.append(Problem("blocked_by", "is empty", remedy, line))
    return found


def friendly(name: str, value: Any) -> Any:
    """A single value for a list of one; numbers of tickets with or without `#`."""
    if name in ("labels", "blocked_by", "acceptance", "acceptance_tests"):
        if isinstance(value, str):
            value = (
                [value]
                if name.startswith("acceptance")
                else [part.strip() for part in value.split(",") if part.strip()]
            )
        if name == "blocked_by" and isinstance(value, list):
            value = [item.removeprefix("#") if isinstance(item, str) else item for item in value]
    return value
