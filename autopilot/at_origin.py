"""Effects at the forge a ticket came from: claim, push and pull request, status comment, and taking all of it back.

Each looks first for what an earlier try left (the claim's branch, our hidden marker, the branch's head) and does only
what is missing, so carrying it out twice does it once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

from autopilot.board import SessionRow
from autopilot.telling import pull_body, pull_title, status_comment
from forge import writing
from forge.client import GitHub
from forge.errors import Refused
from forge.reading import Pull, default_branch, issue
from schemas.session import EffectRequested
from schemas.values import Posted
from workspace.git import GitError, Repository, claim_branch
from workspace.pushing import Remote, guard, is_ancestor, lone_commit

WORKING, DONE = "train:working", "train:done"
"""The labels of the train's own; all others belong to people."""
_CLAIM_TEXT = """# Claimed

An AgenticOps Value Train works on ticket {ticket}: session {session} of drive {drive}.
This branch keeps any other one from taking the same ticket. It is deleted when the session ends.
If that Auto-Pilot is gone for good, delete this branch by hand and the ticket can be taken again.
"""


def origin_of(row: SessionRow) -> str:
    """`OWNER/REPO` of the row's ticket; "" when it came from no forge."""
    return (row.ticket.origin or "").partition(":")[2]


class OriginEffects:
    """Carries out effects at GitHub. Blocking: run it in a thread. Raises ForgeError and GitError."""

    def __init__(self, connect: Callable[[str], GitHub], sessions: Callable[[], Iterable[SessionRow]]) -> None:
        """`connect` gives the connection for `OWNER/REPO` (asked once for each); `sessions` all that this home knows,
        since a claim by one of them is our own."""
        self._connect = connect
        self._sessions = sessions
        self._known: dict[str, GitHub] = {}
        self._places: dict[str, tuple[Remote, str]] = {}

    def github(self, repository: str) -> GitHub:
        """The connection to one repository. Raises ForgeError without credentials."""
        if repository not in self._known:
            self._known[repository] = self._connect(repository)
        return self._known[repository]

    def close(self) -> None:
        """End all connections."""
        for github in self._known.values():
            github.close()

    def carry_out(self, effect: EffectRequested, row: SessionRow) -> Posted:
        """Do it unless it is done; what is there afterwards."""
        github = self.github(origin_of(row))
        before = effect.posted or Posted()
        match effect.kind:
            case "claim":
                return self._claim(github, row)
            case "publish":
                return self._publish(github, effect, row, before)
            case "announce":
                return self._announce(github, row, before)
            case "ready":
                return self._ready(github, row, before)
            case "finish":
                return self._give_back(github, row, done=True)
            case "release":
                return self._give_back(github, row, done=False)
            case "withdraw":
                return self._withdraw(github, row, before)
            case _:
                raise GitError(f"{effect.kind} is nothing that is done at a ticket's origin", "")

    def _place(self, github: GitHub) -> tuple[Remote, str]:
        """Where to push to, and the branch that pull requests go to; asked once."""
        if (place := self._places.get(github.repository)) is None:
            place = self._places[github.repository] = (
                Remote(writing.clone_url(github), github.token),
                default_branch(github),
            )
        return place

    def _claim(self, github: GitHub, row: SessionRow) -> Posted:
        """The branch's creation decides, in one step at the server; assignee and label only tell people."""
        where, (remote, main) = Repository(Path(row.repository)), self._place(github)
        if not remote.has(where, row.base_commit, main):
            raise GitError(
                f"the commit {row.base_commit[:12]}, on which the session starts, is not on {main} of "
                f"{github.repository}, and a push would send it",
                f"push it, or check out {main}, and drive again",
            )
        ticket = issue(github, row.ticket.id)
        if ticket.state != "open":
            return Posted(taken_by=f"issue {ticket.number} was closed meanwhile")
        if others := [a.login for a in ticket.assignees if a != github.me]:
            return Posted(taken_by=f"issue {ticket.number} is assigned to {', '.join(others)[:200]}")
        branch, ours = claim_branch(row.ticket.id), self._claim_commit(where, row)
        holder = remote.create(where, ours, branch)
        if holder != ours and (past := self._own_past(where, row, holder)):
            holder = remote.create(where, ours, branch, past)
        if holder != ours:
            said = writing.said_at(github, holder)[:120]
            return Posted(taken_by=f"branch {branch} stands on {holder[:12]} ({said})"[:300])
        if served := self._served(where, remote, row):
            remote.delete(where, branch, ours)
            return Posted(taken_by=f"branch {served} serves the ticket already"[:300])
        writing.assign_us(github, ticket)
        writing.set_labels(github, ticket, add=(WORKING,), remove=(DONE,))
        return Posted(claim=ours)

    def _claim_commit(self, where: Repository, row: SessionRow) -> str:
        """The commit that stands for this session's claim: the same whenever it is made."""
        text = _CLAIM_TEXT.format(ticket=row.ticket.id, session=row.id, drive=row.drive)
        message = f"Ticket {row.ticket.id} is taken by session {row.id} of drive {row.drive}"
        if row.started is None:
            raise GitError(f"session {row.id} has no start", "")
        return lone_commit(where, text, message, row.started)

    def _own_past(self, where: Repository, row: SessionRow, holder: str) -> str:
        """`holder` if it is the claim of an earlier session of this home that is at rest, else ""."""
        same = [
            other
            for other in self._sessions()
            if other.id != row.id
            and (other.ticket.id, other.ticket.origin) == (row.ticket.id, row.ticket.origin)
            and not other.in_work
        ]
        return holder if holder in [self._claim_commit(where, other) for other in same] else ""

    def _served(self, where: Repository, remote: Remote, row: SessionRow) -> str:
        """A branch for the ticket that is none of this home's: somebody did it between our choice and our claim."""
        own = {other.branch for other in (row, *self._sessions())}
        branches = remote.heads(where, f"phase/*_{row.ticket.id}-*")
        return next((branch for branch in sorted(branches) if branch not in own), "")

    def _publish(self, github: GitHub, effect: EffectRequested, row: SessionRow, before: Posted) -> Posted:
        where, (remote, base) = Repository(Path(row.repository)), self._place(github)
        guard(where, row.base_commit, effect.target, row.max_pushed_bytes)
        if (ticket := issue(github, row.ticket.id)).state != "open":
            raise Refused(f"somebody has closed issue {ticket.number} of {github.repository}: reopen it, or abort the "
                          f"session", 409)  # fmt: skip
        remote.push(where, effect.target, row.branch)
        name = f"{row.id}.{before.round}"
        pull = writing.put_pull(github, row.branch, base, name, pull_title(row), self._clean(github, pull_body(row)))
        if pull.state != "open":
            what = "merged" if pull.merged else "closed"
            raise Refused(f"somebody has {what} pull request {pull.number} of {github.repository}: reopen it, or abort "
                          f"the session", 409)  # fmt: skip
        if not pull.draft:
            writing.begin_draft(github, pull.number)
        return Posted(pull=pull.number, url=pull.url, round=before.round)

    def _announce(self, github: GitHub, row: SessionRow, before: Posted) -> Posted:
        text = self._clean(github, status_comment(row))
        comment = writing.put_comment(github, row.ticket.id, "status", row.id, text, known=before.comment)
        return Posted(comment=comment.id, url=comment.url)

    def _ready(self, github: GitHub, row: SessionRow, before: Posted) -> Posted:
        text = self._clean(github, pull_body(row))
        name, (_, base) = f"{row.id}.{before.round}", self._place(github)
        pull = writing.put_pull(github, row.branch, base, name, pull_title(row), text)
        pull = writing.end_draft(github, pull.number)
        return Posted(pull=pull.number, url=pull.url, round=before.round, note="it is merged" if pull.merged else "")

    def _give_back(self, github: GitHub, row: SessionRow, *, done: bool) -> Posted:
        """People first: without label and assignee nobody waits for us; the branch last, since it keeps others away."""
        where, branch = Repository(Path(row.repository)), claim_branch(row.ticket.id)
        ours, (remote, _) = self._claim_commit(where, row), self._place(github)
        holder = remote.heads(where, branch).get(branch)
        if holder not in (ours, None):
            return Posted(note=f"the ticket's claim {holder} is not ours: nothing to give back")
        ticket = issue(github, row.ticket.id)
        writing.set_labels(github, ticket, add=(DONE,) if done else (), remove=(WORKING,))
        writing.unassign_us(github, ticket)
        if holder is not None:
            remote.delete(where, branch, ours)
        return Posted()

    def _withdraw(self, github: GitHub, row: SessionRow, before: Posted) -> Posted:
        """Close the pull request, then delete the branch while nothing but commits of ours is on it."""
        where, (remote, _) = Repository(Path(row.repository)), self._place(github)
        pull: Pull | None = None
        if number := before.pull or self._pull_number(github, row, before.round):
            pull = writing.close_pull(github, number)
        notes = [f"pull request {pull.number} is merged and stays so"] if pull is not None and pull.merged else []
        there = remote.heads(where, row.branch).get(row.branch)
        if there is not None and self._ours(where, there, row):
            remote.delete(where, row.branch, there)
        elif there is not None:
            notes.append(f"{row.branch} stays: {there[:12]} on it is not ours")
        return Posted(note="; ".join(notes)[:500])

    def _pull_number(self, github: GitHub, row: SessionRow, round_: int) -> int:
        found = writing.our_pull(github, row.branch, f"{row.id}.{round_}")
        return found.number if found is not None else 0

    def _ours(self, where: Repository, commit: str, row: SessionRow) -> bool:
        """Whether the commit is on our own branch here: what others add there is known to nobody here."""
        tip = where.branches(row.branch).get(row.branch)
        with suppress(GitError):
            return tip is not None and where.has_commit(commit) and is_ancestor(where, commit, tip)
        return False

    def _clean(self, github: GitHub, text: str) -> str:
        """Without the token, whatever put it there."""
        return text.replace(github.token(), "***")
