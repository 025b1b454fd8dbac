"""Tickets an engagement can begin with, on the small real data sets, and the phases of one already run on them."""

from __future__ import annotations

from typing import Any

from schemas.ticket import Ticket
from tests.skills.conftest import ECONOMY, VOTES, WINE

BODY = """We guess each voter's choice by hand before we send letters, and often guess wrong.

Users: the two people who write the letters
Decision: which of two letters a voter gets
Today: by the party named in the list, without looking at anything else
Sponsor: Frida Berg, head of outreach
Rules: election law of the state; our own data policy of 2024
Personal data: yes, under the survey's consent
Licence: public domain
Data owner: Survey office
Errors today: 20 %
Cases per year: 50,000
Cost of an error: 1.50 USD
Team: data: ana; training: ben; evaluation: cleo
Approvers: dana
Success: fewer than 12 wrong letters in 100
"""


def asked(ticket: Ticket, body: str = BODY, **changes: Any) -> Ticket:
    """The ticket as somebody would write it for an engagement."""
    return ticket.model_copy(update={"body": body, "requester": "alice", "pipeline": "ml-engagement", **changes})


VOTE = asked(VOTES)
CULTIVAR = asked(WINE)
UNEMPLOYMENT = asked(ECONOMY, BODY.replace("20 %", "1.4"))
