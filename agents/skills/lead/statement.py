"""What a ticket's text says of the people, the decision and the money behind it, as `Label: value` or under headings.

Everything here is what somebody wrote: documents mark it as from the ticket and not verified, and no rule takes it for
more than that. What an engagement cannot do without and nobody wrote is asked for by name, all of it at once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from agents.skill import InputError
from schemas.ticket import Ticket
from schemas.values import Role

FROM_TICKET = "from the ticket, not verified"
"""How documents mark what was taken over from the ticket."""

LABELS: Mapping[str, str] = {
    "problem": "what is wrong today, in the words of those who have the problem (else: the whole text)",
    "users": "who will use the result",
    "decision": "which decision it is used for",
    "today": "how that is decided today",
    "sponsor": "who wants the result and pays for it (else: the requester)",
    "rules": "laws, contracts and policies that apply, or `none known`",
    "success": "a first figure for success",
    "alternatives": "other ways to the goal",
    "cases per year": "how many decisions a year (a number)",
    "errors today": "the share of wrong decisions today (`12 %`), or the mean absolute error for numbers",
    "cost of an error": "US dollars for one wrong decision, or for one unit of absolute error",
    "personal data": "`no`, or on what ground it may be used",
    "licence": "the licence or agreement under which the data may be used",
    "data owner": "whom to ask about the data",
    "other data": "further data that may help, with owner and access",
    "team": "a person for each agent: `data: ana; training: ben`",
    "approvers": "who is to decide the gates",
    "deadline": "the day the result is wanted (`2026-12-24`)",
    "stage": "`pilot`, `repeatable`, `automated` or `scale`",
    "money": "US dollars the whole engagement may cost, people included",
    "incidents": "what went wrong in use, for the review",
    "hours of people": "hours of people's work that it takes, as its author sees it",
    "requests a second": "the most requests a second the model must answer",
    "latency limit": "milliseconds within which 95 of 100 answers must come",
    "price of a replica hour": "US dollars that one model server costs an hour",
    "budget a month": "US dollars that serving the model may cost a month",
}
"""Every label, and what it is for. Upper and lower case do not matter."""

NEEDED = ("users", "decision", "today", "rules")
"""Without these no engagement begins; `sponsor` may come from the ticket's requester, `problem` is the text."""

_LONGEST = 2000
_ROLES = frozenset(role.value for role in Role)
_LABEL = re.compile(
    rf"^\s*(?:[-*]\s+)?\**({'|'.join(sorted(LABELS, key=len, reverse=True))})\**\s*:\**\s*(.*)$", re.IGNORECASE
)
_HEADING = re.compile(r"^\s*#{1,6}\s+(.*?)\s*:?\s*$")
_EMPTY = frozenset({"", "_no response_", "n/a", "?", "tbd"})
_NUMBER = re.compile(
    r"^(?:usd|\$)?\s*([0-9][0-9,_ ]*(?:\.[0-9]+)?|\.[0-9]+)\s*(%|percent\b)?"
    r"(?:\s*(?:\$|\b(?:usd|dollars?|a|an|per|each|year|of|in|all|the|cases?|decisions?|errors?|units?|absolute"
    r"|month|hour|second|ms|milliseconds?|requests?|replicas?|servers?)\b))*[.\s]*$",
    re.IGNORECASE,
)
"""A number, a percent sign, and words that change nothing; `5 k` or `2 million` is asked for again."""


@dataclass(frozen=True)
class Statement:
    """What a ticket's text says, by label in lower case."""

    said: Mapping[str, str]
    body: str
    requester: str

    def text(self, label: str) -> str:
        """What was written under `label`; empty if nothing was."""
        return self.said.get(label, "")

    @property
    def problem(self) -> str:
        """The problem in the ticket's own words: its label, else the whole text."""
        return self.text("problem") or self.body.strip()

    @property
    def sponsor(self) -> str:
        """Who wants the result and pays: the label, else the requester, else empty."""
        return self.text("sponsor") or self.requester

    @property
    def sponsor_from(self) -> str:
        """Where the sponsor's name comes from, in words."""
        return FROM_TICKET if self.text("sponsor") else f"the ticket's requester; {FROM_TICKET}"

    def names(self, label: str) -> tuple[str, ...]:
        """The names under `label`, which stand on lines of their own or between commas and semicolons."""
        return tuple(name for each in re.split(r"[,;\n]", self.text(label)) if (name := each.strip(" -*.")))

    def team(self) -> dict[str, str]:
        """Agent to the person to ask, as the ticket names them. Raises InputError for an agent that is none."""
        found = {}
        for each in re.split(r"[;\n]", self.text("team")):
            role, colon, person = (part.strip(" -*") for part in each.partition(":"))
            if not role and not colon:
                continue
            if role.lower() not in _ROLES or not person:
                raise InputError(
                    f"the ticket's text names {each.strip()[:60]!r} for the team",
                    f"write `Team: data: ana; training: ben` with agents among {', '.join(sorted(_ROLES))}",
                )
            found[role.lower()] = person
        return found

    def number(self, label: str) -> float | None:
        """The number under `label`, a percentage as its share; None if there is none. Raises InputError for others."""
        written = self.text(label)
        if not written:
            return None
        match = _NUMBER.match(written.strip())
        if match is None:
            raise InputError(
                f"the ticket's text says {label!r} is {written[:60]!r}, which is no number",
                f"write for example `{label.capitalize()}: 1200` or `12 %`",
            )
        value = float(re.sub(r"[,_ ]", "", match[1]))
        return value / 100 if match[2] else value


def read_statement(ticket: Ticket) -> Statement:
    """What the ticket's text says. Raises InputError when a label stands twice with different values."""
    said: dict[str, str] = {}
    label = ""
    lines: list[str] = []

    def close() -> None:
        value = "\n".join(lines).strip()[:_LONGEST]
        if label and value.lower() not in _EMPTY:
            if said.get(label, value) != value:
                raise InputError(f"the ticket's text says {label!r} twice, differently", "write it once")
            said[label] = value

    by_heading = False
    for line in ticket.body.splitlines():
        heading, labelled = _HEADING.match(line), _LABEL.match(line)
        if heading:
            close()
            name = heading[1].lower()
            label, lines, by_heading = (name if name in LABELS else ""), [], True
        elif labelled:
            close()
            label, lines, by_heading = labelled[1].lower(), [labelled[2]], False
        elif not line.strip() and not by_heading:
            close()
            label, lines = "", []
        elif label:
            lines.append(line)
    close()
    return Statement(said, ticket.body, ticket.requester or "")


def need_statement(ticket: Ticket) -> Statement:
    """The statement of a ticket an engagement can begin with.

    Raises InputError naming everything that is missing, and how to write it.
    """
    statement = read_statement(ticket)
    missing = [label for label in NEEDED if not statement.text(label)]
    if not statement.sponsor:
        missing.append("sponsor")
    if not statement.problem:
        missing.append("problem")
    if missing:
        wanted = "; ".join(f"`{label.capitalize()}: …` ({LABELS[label]})" for label in missing)
        raise InputError(
            f"the ticket's text does not say {', '.join(missing)}, and an engagement cannot begin without",
            f"add a line for each: {wanted}",
        )
    for label in ("cases per year", "errors today", "cost of an error", "money"):
        statement.number(label)
    statement.team()
    return statement
