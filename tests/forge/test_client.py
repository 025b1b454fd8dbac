"""The client against real HTTP: pages, limits, errors, lost answers, conditional requests."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from forge.client import GitHub
from forge.credentials import App, Token
from forge.errors import Ambiguous, ForgeError, NotAllowed, NotFound, RateLimited, Refused, Unavailable
from forge.waiting import patiently
from tests.forge.conftest import Client
from tests.github_server.faults import Fault
from tests.github_server.server import GitHubServer
from tests.github_server.state import Repository


def test_a_list_comes_page_by_page(server: GitHubServer, repository: Repository, client: Client) -> None:
    for number in range(1, 251):
        server.state.issue(repository, f"Ticket {number}")
    rows = list(client().rows("issues", {"state": "all"}))
    assert sorted(row["number"] for row in rows) == list(range(1, 251))
    assert server.log.count("get", "/issues") == 3


def test_an_unchanged_answer_costs_nothing(server: GitHubServer, repository: Repository, client: Client) -> None:
    issue = server.state.issue(repository)
    github = client()
    first = github.get("issues/1", conditional=True)
    left = server.state.account("valuetrain[bot]").remaining
    again = github.get("issues/1", conditional=True)
    assert (first.changed, again.changed) == (True, False)
    assert again.body == first.body
    assert server.state.account("valuetrain[bot]").remaining == left
    server.state.label(issue, "auto", "alice")
    assert github.get("issues/1", conditional=True).changed
    assert server.log.statuses == {200: 2, 304: 1}


@pytest.mark.parametrize("kind", ["drop_before", "drop_after", "error"])
def test_a_read_is_tried_again(kind: str, server: GitHubServer, repository: Repository, client: Client) -> None:
    server.state.issue(repository)
    fault = server.fail(Fault(kind, times=2))  # type: ignore[arg-type]
    assert client().get("issues/1").body["number"] == 1
    assert fault.happened == 2


def test_a_server_that_stays_away_is_unavailable(server: GitHubServer, client: Client) -> None:
    server.fail(Fault("error", times=99, status=503))
    with pytest.raises(Unavailable, match="answered 503 to GET /repos/acme/wine/issues/1; try again later"):
        client().get("issues/1")
    assert server.log.count() == 3


def test_nobody_there(repository: Repository, client: Client, server: GitHubServer) -> None:
    github = client()
    server.close()
    with pytest.raises(Unavailable, match=r"cannot be reached: .*refused"):
        github.get("issues/1")
    with pytest.raises(Unavailable, match="cannot be reached"):  # nothing was sent: not ambiguous
        github.send("PATCH", "issues/1", {"state": "closed"})


@pytest.mark.parametrize(("kind", "done"), [("drop_before", "open"), ("drop_after", "closed")])
def test_a_write_whose_answer_is_lost_is_ambiguous_and_not_repeated(
    kind: str, done: str, server: GitHubServer, repository: Repository, client: Client
) -> None:
    issue = server.state.issue(repository)
    server.fail(Fault(kind, verb="PATCH"))  # type: ignore[arg-type]
    with pytest.raises(Ambiguous, match="it may have been done or not, so look before doing it again"):
        client().send("PATCH", "issues/1", {"state": "closed"})
    assert server.log.count("patch") == 1
    assert issue.state == done


def test_a_write_answered_with_an_error_of_the_server_is_ambiguous(
    server: GitHubServer, repository: Repository, client: Client
) -> None:
    server.state.issue(repository)
    server.fail(Fault("error", verb="PATCH"))
    with pytest.raises(Ambiguous, match="was answered 502"):
        client().send("PATCH", "issues/1", {"state": "closed"})
    assert server.log.count("patch") == 1


@pytest.mark.parametrize(
    ("kind", "status"), [("primary", 403), ("primary", 429), ("secondary", 403), ("secondary", 429)]
)
def test_a_limit_says_until_when(
    kind: str, status: int, server: GitHubServer, repository: Repository, client: Client
) -> None:
    server.state.issue(repository)
    server.fail(Fault(kind, seconds=120, status=status))  # type: ignore[arg-type]
    with pytest.raises(RateLimited, match="rate limit") as caught:
        client().send("PATCH", "issues/1", {"state": "closed"})
    ahead = caught.value.until - datetime.now(UTC)
    assert timedelta(seconds=110) < ahead <= timedelta(seconds=123)


async def test_a_limit_is_waited_for(server: GitHubServer, repository: Repository, client: Client) -> None:
    server.state.issue(repository)
    server.fail(Fault("secondary", seconds=1))
    told: list[str] = []
    github = client()
    answer = await patiently(lambda: github.get("issues/1"), told=lambda why, until: told.append(why))
    assert answer.body["number"] == 1
    assert len(told) == 1
    assert "secondary rate limit" in told[0]


async def test_a_limit_that_is_too_far_away_is_told(
    server: GitHubServer, repository: Repository, client: Client
) -> None:
    server.fail(Fault("primary", seconds=600))
    github = client()
    with pytest.raises(RateLimited):
        await patiently(lambda: github.get("issues/1"), at_most=60)


def test_errors_say_what_to_do(server: GitHubServer, repository: Repository, client: Client) -> None:
    server.state.issue(repository, author="carol")
    with pytest.raises(NotFound, match=r"issues/9 at .* was answered 404: Not Found; there is no such thing"):
        client().get("issues/9")
    with pytest.raises(NotAllowed, match="lacks this permission"):
        client("bob").send("PATCH", "issues/1", {"state": "closed"})
    with pytest.raises(NotAllowed, match="valid and not expired") as caught:
        client(credentials=Token("wrong-secret")).get("issues/1")
    assert "wrong-secret" not in str(caught.value)
    with pytest.raises(Refused, match="422"):
        client().send("PATCH", "issues/1", {"milestone": 3})


def test_a_page_that_is_no_api(server: GitHubServer, client: Client) -> None:
    server.fail(Fault("error", status=299))
    with pytest.raises(ForgeError, match="did not answer with JSON; is `github_url` the API's address"):
        client().get("issues/1")


def test_the_token_is_not_shown(client: Client) -> None:
    github = client()
    assert "token-of" not in f"{github!r} {github.__dict__} {Token('token-of-x')!r}"


def test_an_enterprise_server(server: GitHubServer, repository: Repository, client: Client) -> None:
    for _ in range(101):
        server.state.issue(repository)
    github = client(base_url=f"{server.url}/api/v3")
    assert len(list(github.rows("issues"))) == 101


def test_further_pages_elsewhere_get_no_token(client: Client) -> None:
    with pytest.raises(ForgeError, match="names a further page at another server"):
        client()._relative("http://127.0.0.1:1/repositories/1/issues?page=2")


def test_an_app_logs_in(server: GitHubServer, repository: Repository, client: Client) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()
    public = (
        key.public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode()
    )
    account = server.state.account("train[bot]", kind="Bot")
    repository.roles["train[bot]"] = "write"
    server.state.installations[77] = account, public
    server.state.issue(repository)
    github = client(credentials=App(5, 77, private))
    assert github.get("issues/1").body["number"] == 1
    assert github.get("issues/1").body["number"] == 1
    assert server.log.count("post", "/access_tokens") == 1  # one for both
    assert (github.me.login, github.me.id, github.me.bot) == ("train[bot]", account.id, True)
    assert github.token() == account.token
    with pytest.raises(NotFound, match="making an installation token of the GitHub App"):
        client(credentials=App(5, 78, private)).get("issues/1")
    with pytest.raises(NotAllowed, match="is no PEM private key"):
        client(credentials=App(5, 77, "no key")).get("issues/1")


def test_who_we_are(server: GitHubServer, client: Client) -> None:
    github = client()
    assert github.me.login == "valuetrain[bot]"
    assert github.me.id == server.state.account("valuetrain[bot]").id
    assert server.log.count("get", "/user") == 1


def test_closing_ends_a_wait(server: GitHubServer, client: Client) -> None:
    github: GitHub = client(delays=(3600.0,))
    server.fail(Fault("error", times=9))
    github.close()
    with pytest.raises(Unavailable, match="was closed"):
        github.get("issues/1")
