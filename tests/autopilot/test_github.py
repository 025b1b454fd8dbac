"""The GitHub backlog against the stand-in, over real HTTP: what it reads, what it asks again, and whom it believes."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from autopilot.select import Selection, select
from autopilot.sources import github as module
from autopilot.sources.github import GitHubBacklog
from autopilot.sources.port import BacklogError, Serving, Snapshot
from schemas.policy import Policy
from tests.autopilot.conftest import BOT, Clock
from tests.github_server.faults import Fault
from tests.github_server.server import GitHubServer
from tests.github_server.state import Issue, Pull, Repository

TEXT = "---\ndata: data/wine.csv\ntarget: cultivar\n---\nWhy.\n"


def task(server: GitHubServer, repository: Repository, title: str = "Sort wines", **options: object) -> Issue:
    """An issue of bob's that alice, who may, labelled for Auto-Pilot."""
    settings = {"body": TEXT, "author": "bob", "labels": ("Task", "auto"), "labeller": "alice"} | options
    return server.state.issue(repository, title, **settings)  # type: ignore[arg-type]


def chosen(snapshot: Snapshot, policy: Policy | None = None) -> Selection:
    return select(snapshot, policy or Policy(), {}, datetime.now(UTC))


def why(source: GitHubBacklog, number: int, policy: Policy | None = None) -> str:
    selection = chosen(source.read(), policy)
    assert number not in selection.order
    return selection.passed_over[number]


async def test_an_issue_is_a_ticket(server: GitHubServer, repository: Repository, source: GitHubBacklog) -> None:
    issue = task(server, repository)
    snapshot = await source.snapshot()
    entry = snapshot.entries[1]
    assert (entry.ticket.id, entry.ticket.title, entry.ticket.data) == (1, "Sort wines", "data/wine.csv")
    assert entry.ticket.labels == ("Task", "auto")
    assert entry.ticket.created == issue.created
    assert (entry.ticket.requester, entry.ticket.requester_id) == ("bob", server.state.account("bob").id)
    assert entry.ticket.origin == snapshot.backlog == source.name == "github:acme/wine"
    assert entry.source == f"{server.url}/acme/wine/issues/1"
    assert chosen(snapshot).order == (1,)


def test_the_digest_is_of_what_a_person_edits(
    server: GitHubServer, repository: Repository, source: GitHubBacklog
) -> None:
    issue = task(server, repository)
    first = source.read().digests[1]
    server.state.comment(issue, "status", BOT)
    server.state.label(issue, "now", "alice")
    assert source.read().digests[1] == first
    server.state.edit(issue, TEXT + "More.", "alice")
    assert source.read().digests[1] != first


def test_an_issue_that_cannot_be_read_is_named_and_hides_nothing(
    server: GitHubServer, repository: Repository, source: GitHubBacklog
) -> None:
    task(server, repository, body="---\nrisk: huge\n---\n")
    task(server, repository)
    task(server, repository, body="---\nnot for us: [\n", labels=())
    snapshot = source.read()
    assert snapshot.unreadable == {"#1": "line 2: `risk` is 'huge', but should be 'low', 'medium' or 'high'; write "
                                   "`risk: low`, `risk: medium` or `risk: high`"}  # fmt: skip
    assert sorted(snapshot.entries) == [2, 3]
    server.state.edit(repository.issues[1], TEXT, "alice")
    assert source.read().unreadable == {}


def test_hundreds_of_issues(server: GitHubServer, repository: Repository, source: GitHubBacklog) -> None:
    for number in range(1, 131):
        server.state.issue(repository, f"Note {number}")
    task(server, repository)
    snapshot = source.read()
    assert len(snapshot.entries) == 131
    assert server.log.count("get", "/acme/wine/issues", 200) == 3  # two pages, and one issue's events


def test_a_poll_without_news_is_two_requests_answered_not_modified(
    server: GitHubServer, repository: Repository, source: GitHubBacklog
) -> None:
    issue = task(server, repository)
    source.read()
    source.read()
    server.forget()
    source.read()
    assert server.log.statuses == {304: 2}
    server.state.close(issue, "alice")
    assert source.read().tickets[1].state == "closed"
    source.read()
    server.forget()
    source.read()
    assert server.log.statuses == {304: 2}


def test_many_changes_at_once_do_not_make_every_later_poll_long(
    server: GitHubServer, repository: Repository, source: GitHubBacklog, clock: Clock
) -> None:
    for number in range(1, 121):
        server.state.issue(repository, f"Note {number}")
    for _ in range(4):
        source.read()
        clock.now += 61
    server.forget()
    source.read()
    assert server.log.statuses == {304: 2}
    server.state.late += 5
    task(server, repository)
    assert chosen(source.read()).order == (121,)


def test_what_changed_is_asked_again_and_nothing_else(
    server: GitHubServer, repository: Repository, source: GitHubBacklog
) -> None:
    for _ in range(5):
        task(server, repository)
    source.read()
    server.forget()
    server.state.label(repository.issues[3], "hold", "alice")
    assert chosen(source.read()).order == (1, 2, 4, 5)
    assert server.log.count("get", "/events") == 0
    server.forget()
    server.state.unlabel(repository.issues[3], "hold", "alice")
    assert chosen(source.read()).order == (1, 2, 3, 4, 5)
    assert server.log.count("get", "/events") == 1


def test_everything_is_read_anew_now_and_then(
    server: GitHubServer, repository: Repository, source: GitHubBacklog, clock: Clock
) -> None:
    first, second = task(server, repository), task(server, repository)
    assert chosen(source.read()).order == (1, 2)
    with server.state.lock:  # without a trace on the issue's time of change
        first.blocked_by.append(2)
        repository.roles["alice"] = "read"
        del repository.issues[second.number]
    source.read()
    clock.now += module.REREAD
    snapshot = source.read()
    assert sorted(snapshot.entries) == [1]
    assert "alice, who may only read" in chosen(snapshot).passed_over[1]
    server.state.label(first, "later", "max")
    assert chosen(source.read(), Policy(label_permission="read")).order == (1,)


def test_dependencies_and_texts_name_blockers(
    server: GitHubServer, repository: Repository, source: GitHubBacklog
) -> None:
    closed = server.state.issue(repository, "Done long ago")
    server.state.close(closed, "alice")
    task(server, repository, body="### Blocked by\n#1\n")
    third = task(server, repository)
    third.blocked_by.append(2)
    task(server, repository, body="### Blocked by\n#77\n")
    snapshot = source.read()
    assert snapshot.tickets[3].blocked_by == (2,)
    selection = chosen(snapshot)
    assert selection.order == (2,)
    assert selection.passed_over[3] == "passed over: blocked by ticket 2, which is open"
    assert "blocked by ticket 77, which is not in the backlog" in selection.passed_over[4]
    server.forget()
    source.read()
    assert server.log.count("get", "/issues/77") == 0  # asked once


def test_circles_are_parked(server: GitHubServer, repository: Repository, source: GitHubBacklog) -> None:
    first, second = task(server, repository), task(server, repository)
    first.blocked_by.append(2)
    second.blocked_by.append(1)
    assert "blocked in a circle (1 → 2 → 1)" in why(source, 1)


@pytest.mark.parametrize(
    ("labeller", "reason"),
    [
        ("bob", "its label `Task` was set by bob, who may only read (the policy asks for triage)"),
        (BOT, f"its label `Task` was set by {BOT}, which is Auto-Pilot itself"),
        ("alice", ""),
        ("max", ""),
    ],
)
def test_who_may_label(
    labeller: str, reason: str, server: GitHubServer, repository: Repository, source: GitHubBacklog
) -> None:
    task(server, repository, labeller=labeller)
    if reason:
        assert reason in why(source, 1)
    else:
        assert chosen(source.read()).order == (1,)


def test_the_policy_says_what_a_labeller_needs(
    server: GitHubServer, repository: Repository, source: GitHubBacklog
) -> None:
    task(server, repository)
    assert "alice, who may only triage (the policy asks for maintain)" in why(
        source, 1, Policy(label_permission="maintain")
    )


def test_the_last_to_set_a_label_counts(server: GitHubServer, repository: Repository, source: GitHubBacklog) -> None:
    issue = task(server, repository)
    server.state.unlabel(issue, "auto", "alice")
    server.state.label(issue, "auto", "bob")
    assert "its label `auto` was set by bob" in why(source, 1)


def test_a_text_changed_after_labelling_by_who_may_not_label(
    server: GitHubServer, repository: Repository, source: GitHubBacklog
) -> None:
    issue = task(server, repository)
    assert chosen(source.read()).order == (1,)
    server.state.late += 5
    server.state.edit(issue, "---\ndata: data/other.csv\n---\n", "bob")
    assert "bob, who may not label, changed it after it was labelled" in why(source, 1)
    server.state.late += 5
    server.state.edit(issue, TEXT, "alice")
    assert "bob, who may not label, changed it" in why(source, 1)  # what alice changed on top says nothing of the rest
    server.state.late += 5
    server.state.unlabel(issue, "auto", "alice")
    server.state.label(issue, "auto", "alice")
    assert chosen(source.read()).order == (1,)


def test_a_text_changed_by_who_may_label(server: GitHubServer, repository: Repository, source: GitHubBacklog) -> None:
    issue = task(server, repository)
    server.state.late += 5
    server.state.edit(issue, TEXT + "More", "alice")
    assert chosen(source.read()).order == (1,)


def test_assigned_to_a_person_or_to_ourselves(
    server: GitHubServer, repository: Repository, source: GitHubBacklog
) -> None:
    issue = task(server, repository)
    for login, reason in (("max", "assigned to max, who works on it by hand"), (BOT, "another Auto-Pilot took it")):
        issue.assignees = [server.state.account(login)]
        server.state.event(issue, "assigned", server.state.account("max"), assignee=server.state.account(login))
        assert reason in why(source, 1)


def test_locked_closed_and_held(server: GitHubServer, repository: Repository, source: GitHubBacklog) -> None:
    issue = task(server, repository)
    issue.locked = True
    server.state.event(issue, "locked", server.state.account("max"))
    assert why(source, 1) == "passed over: locked"


def test_branches_and_pull_requests_that_serve_a_ticket(
    server: GitHubServer, repository: Repository, source: GitHubBacklog
) -> None:
    for _ in range(4):
        task(server, repository)
    repository.commit({"a": "1"}, branch="1-sort-wines")
    repository.commit({"a": "1"}, branch="phase/delivery_2-k7m2p")
    repository.commit({"a": "1"}, branch="other")
    server.state.issue(repository, "By hand", "Fixes #3", author="eve", pull=Pull("patch-1", "main", "eve"))
    server.state.issue(repository, "Ours", "", author=BOT, pull=Pull("phase/delivery_2-k7m2p", "main", "acme"))
    snapshot = source.read()
    assert snapshot.serving == {
        1: (Serving("1-sort-wines"),),
        2: (Serving("phase/delivery_2-k7m2p", 6, BOT),),
        3: (Serving("patch-1", 5, "eve"),),
    }
    assert snapshot.own_pulls == {"phase/delivery_2-k7m2p"}
    assert 5 not in snapshot.entries  # a pull request is no ticket
    server.state.close(repository.issues[5], "eve")
    later = server.state.issue(repository, "By hand", "resolves: acme/wine#4", author="eve")
    later.pull = Pull("patch-2", "main", "eve")
    assert sorted(source.read().serving) == [1, 2, 4]


@pytest.mark.parametrize("kind", ["primary", "secondary"])
async def test_a_limit_in_the_middle_of_reading(
    kind: str, server: GitHubServer, repository: Repository, source: GitHubBacklog
) -> None:
    for _ in range(3):
        task(server, repository)
    fault = server.fail(Fault(kind, path="/issues/3/events", seconds=1))  # type: ignore[arg-type]
    assert chosen(await source.snapshot()).order == (1, 2, 3)
    assert fault.happened == 1
    assert server.log.count("get", "/issues/1/events") == 1  # what was read before the limit is kept


async def test_dropped_connections_and_errors(
    server: GitHubServer, repository: Repository, source: GitHubBacklog
) -> None:
    task(server, repository)
    server.fail(Fault("drop_before", path="/issues$"))
    server.fail(Fault("drop_after", path="/events"))
    server.fail(Fault("error", path="/matching-refs", status=503))
    assert chosen(await source.snapshot()).order == (1,)


async def test_github_away_at_first_is_an_error_and_later_is_waited_for(
    server: GitHubServer, repository: Repository, source: GitHubBacklog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_AWAY", (0.01,))
    task(server, repository)
    server.fail(Fault("error", times=3))
    with pytest.raises(BacklogError, match=r"github:acme/wine cannot be read: .* answered 502"):
        await source.snapshot()
    await source.snapshot()
    fault = server.fail(Fault("error", times=7))
    assert chosen(await source.snapshot()).order == (1,)
    assert fault.happened == 7


async def test_no_such_repository_or_no_permission(
    server: GitHubServer, repository: Repository, source: GitHubBacklog
) -> None:
    repository.private = True
    repository.roles[BOT] = "none"
    with pytest.raises(BacklogError, match="may not see it") as caught:
        await source.snapshot()
    assert "token-of" not in str(caught.value)
    repository.private = False
    repository.roles[BOT] = "read"
    task(server, repository)
    with pytest.raises(BacklogError, match="lacks this permission"):  # nobody's role can be asked: nothing is taken
        await source.snapshot()


def test_an_empty_backlog_says_how_to_fill_it(
    server: GitHubServer, repository: Repository, source: GitHubBacklog
) -> None:
    assert "has no open issue; write one, label it `Task` and `auto`" in source.read().hint
