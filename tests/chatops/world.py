"""A running system whose session waits at a gate, a stand-in for GitHub, and chat-ops between them. Real NATS, record,
conductor, PyGithub and HTTP; only the agent's work is one report."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from slack_sdk import WebClient
from slack_sdk.signature import SignatureVerifier

from bus.nats_bus import NatsBus, connect
from bus.port import Bus
from chatops.feed import Feed
from chatops.github import GitHubConversation
from chatops.hearing import Ear, Result
from chatops.listening import Listener
from chatops.position import Position
from chatops.serving import bind, serving
from chatops.slack import Clicks
from chatops.slack_http import SlackActions
from chatops.slack_posts import Poster
from chatops.webhook import Webhook
from cli.bootstrap import System, system
from cli.home import Home
from cli.settings import Settings
from conductor.state import GateState, SessionState
from forge.client import GitHub
from forge.conversation import Remark
from forge.credentials import Token
from schemas import commands as cmd
from schemas.envelope import CommandEnvelope, StreamId
from schemas.ids import uuid7
from schemas.messages import Command
from schemas.pipeline import GateDefinition, PhaseDefinition, PipelineDefinition
from schemas.policy import Account as PolicyAccount
from schemas.policy import Approver, Policy
from schemas.ticket import Ticket
from schemas.values import Actor, ArtifactRef, Mode, Posted, Role
from tests.chatops.slack_server import SlackServer
from tests.github_server.server import GitHubServer
from tests.github_server.state import Comment, Issue, Repository

SECRET = "a secret of the webhook"
SLACK_SECRET = "a secret of Slack"
CHANNEL = "C0123456789"
PAYLOADS = json.loads((Path(__file__).parents[1] / "fixtures" / "webhooks.json").read_text("utf-8"))
COMMIT = "0123456789abcdef0123456789abcdef01234567"
MACHINE = Actor(name="test", channel="bus", verified_as="login:test")
PIPELINE = PipelineDefinition(
    name="small",
    description="One phase behind a gate, one after it.",
    phases=(
        PhaseDefinition(name="plan-it", agent=Role.LEAD, mode=Mode.SCOPE, purpose="Plan.", skills=("lead.scope",),
                        artifacts=("plan.json",), gate=GateDefinition(human="always", quorum=1)),
        PhaseDefinition(name="judge-it", agent=Role.RISK, mode=Mode.EVALUATE, purpose="Judge.", skills=("risk.scan",),
                        gate=GateDefinition(human="always", quorum=2)),
    ),
)  # fmt: skip


class Spy(Ear):
    """An ear that remembers what it heard."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.heard: list[Result] = []

    async def hear(self, remark: Remark) -> tuple[Result, ...]:
        results = await super().hear(remark)
        self.heard += results
        return results


@dataclass(slots=True)
class World:
    """Everything a test needs. `say` writes a comment at GitHub; `listen` lets chat-ops look."""

    github: GitHubServer
    repository: Repository
    issue: Issue
    running: System
    bus: Bus
    ear: Spy
    listener: Listener
    feed: Feed
    url: str
    slack: SlackServer
    poster: Poster
    clicks: Clicks
    home: Home
    policy: Policy
    session: str = "s1-abcde"
    client: httpx.AsyncClient = field(default_factory=lambda: httpx.AsyncClient(timeout=30))

    def say(
        self, body: str, by: str = "dana", *, app: str = "", edited: bool = False, on: Issue | None = None
    ) -> Comment:
        comment = self.github.state.comment(on or self.issue, body, by)
        comment.app = app
        if edited:
            comment.updated += timedelta(seconds=5)
        return comment

    async def listen(self) -> list[Result]:
        """What chat-ops heard in one look."""
        self.ear.heard.clear()
        await self.listener.look()
        return list(self.ear.heard)

    async def state(self) -> SessionState:
        found = self.running.conductor.load(self.stream)
        assert isinstance(found, SessionState)
        return found

    async def gate(self) -> GateState:
        gate = (await self.state()).open_gate
        assert gate is not None
        return gate

    @property
    def stream(self) -> StreamId:
        return StreamId("default", "session", self.session)

    async def send(self, command: Command, sender: str, actor: Actor = MACHINE, id_: str = "") -> dict[str, Any]:
        """Send as the login `sender`."""
        envelope = CommandEnvelope(
            id=id_ or uuid7(), stream=self.stream, time=datetime.now(UTC), actor=actor, sender=sender,
            correlation_id=self.session, causation_id="", command=command,
        )  # fmt: skip
        async with await connect(self.running.server.login(sender), name="test") as bus:
            return await bus.send(envelope)

    async def work(self, agent: Role, phase: str, artifacts: tuple[str, ...]) -> None:
        """A phase from claim to gate."""
        await self.carry_out()
        claimed = await self.send(cmd.ClaimAttempt(phase=phase, attempt=1, holder="h"), agent.value)
        assert claimed["accepted"], claimed
        made = tuple(ArtifactRef(name=name, sha256="5" * 64, size=1) for name in artifacts)
        report = cmd.ReportWork(
            phase=phase, attempt=1, lease=claimed["lease"], summary="done", artifacts=made, ticked=(), measurements=()
        )
        assert (await self.send(report, agent.value))["accepted"]
        await self.carry_out()

    async def carry_out(self) -> None:
        """The receipts of whatever effects were asked for."""
        posted = Posted(claim="c" * 40, pull=99, comment=1)
        while effects := (await self.state()).effects:
            effect = effects[0]
            done = {"commit": COMMIT} if effect.kind == "commit" else {"posted": posted}
            receipt = cmd.RecordEffect.model_validate({"effect": effect.id, "kind": effect.kind, **done})
            verdict = await self.send(receipt, "autopilot")
            assert verdict["accepted"], verdict

    # Webhooks

    def payload(self, comment: Comment, action: str = "created") -> dict[str, Any]:
        """What GitHub sends of a comment: a real payload with this one's number and text in it."""
        payload = json.loads(json.dumps(PAYLOADS["issue_comment.created"])) | {"action": action}
        payload["repository"]["full_name"] = self.repository.full_name
        payload["comment"] |= {"id": comment.id, "body": comment.body}
        return payload

    async def post(self, payload: Any, *, secret: str = SECRET, **headers: str) -> int:
        """Deliver a webhook; the status. `headers` overrule (with `_` for `-`); an empty one is left out."""
        raw = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        signature = "sha256=" + hmac.new(secret.encode(), raw, hashlib.sha256).hexdigest()
        sent = {
            "content-type": "application/json",
            "x-github-event": "issue_comment",
            "x-github-delivery": uuid7(),
            "x-hub-signature-256": signature,
        } | {name.replace("_", "-"): value for name, value in headers.items()}
        answer = await self.client.post(
            f"{self.url}/github", content=raw, headers={name: value for name, value in sent.items() if value}
        )
        return answer.status_code

    def hints(self) -> list[Any]:
        """The hints that wait."""
        found = []
        while self.listener._hints.statistics().current_buffer_used:
            found.append(self.listener._hints.receive_nowait())
        return found

    # Slack

    def click(self, action: str, user: str, gate: str, reason: str = "", /, **changes: Any) -> dict[str, Any]:
        """What Slack sends of a pressed button."""
        payload: dict[str, Any] = {
            "type": "block_actions",
            "user": {"id": user, "team_id": "T1", "name": "somebody"},
            "team": {"id": "T1"},
            "channel": {"id": CHANNEL},
            "container": {"type": "message", "message_ts": self.poster.shown_as(gate) or "0"},
            "state": {"values": {"reason": {"reason": {"type": "plain_text_input", "value": reason or None}}}},
            "actions": [{"action_id": action, "value": gate, "action_ts": f"{time.time():.6f}", "type": "button"}],
        }
        return payload | changes

    async def press(self, payload: Any, *, secret: str = SLACK_SECRET, late: float = 0.0, **headers: str) -> int:
        """Deliver a click; the status."""
        raw = payload if isinstance(payload, bytes) else httpx.QueryParams({"payload": json.dumps(payload)})
        body = raw if isinstance(raw, bytes) else str(raw).encode()
        stamp = str(int(time.time() - late))
        signature = SignatureVerifier(secret).generate_signature(timestamp=stamp, body=body) or ""
        sent = {
            "content-type": "application/x-www-form-urlencoded",
            "x-slack-request-timestamp": stamp,
            "x-slack-signature": signature,
        } | {name.replace("_", "-"): value for name, value in headers.items()}
        answer = await self.client.post(
            f"{self.url}/slack", content=body, headers={name: value for name, value in sent.items() if value}
        )
        return answer.status_code


PEOPLE = {"dana": "write", "olga": "maintain", "erik": "read", "alice": "write", "bob": "triage", "carl": "write",
          "frank": "write", "mallory": "admin"}  # fmt: skip


def policy_of(github: GitHubServer) -> Policy:
    """dana approves, erik lost write access, alice requested the ticket, carl labelled it, frank's login changed hands;
    olga operates, adam may override; mallory is a stranger who owns the repository."""

    def number(login: str) -> tuple[int, ...]:
        return (github.state.account(login).id,)

    return Policy(
        approvers=(
            Approver(name="dana", github=number("dana"), slack=("U0DANA",)),
            Approver(name="erik", github=number("erik"), slack=("U0ERIK",)),
            Approver(name="alice", github=number("alice"), slack=("U0ALICE",)),
            Approver(name="carl", github=number("carl"), slack=("U0CARL",)),
            Approver(name="frank", github=number("frank")),
            Approver(name="robot", github=number("robot[bot]")),
            Approver(name="elsewhere", phases=("judge-it",), github=number("bob")),
        ),
        operators=("olga",),
        admins=("adam",),
        accounts=(
            PolicyAccount(name="olga", github=number("olga"), slack=("U0OLGA",)),
            PolicyAccount(name="adam", github=number("adam")),
        ),
    )


@contextmanager
def stand_in(folder: Path) -> Iterator[tuple[GitHubServer, Repository, Issue]]:
    """GitHub with one repository and one issue, which alice wrote and carl labelled."""
    with GitHubServer(folder / "github") as github:
        github.state.account("valuetrain[bot]", kind="Bot")
        github.state.account("robot[bot]", kind="Bot")
        roles = PEOPLE | {"valuetrain[bot]": "write", "robot[bot]": "write", "adam": "admin"}
        repository = github.state.repository("acme/wine", **roles)
        github.state.late = -10  # the ticket was there before the session
        issue = github.state.issue(repository, "Sort the wine", author="alice", labels=("auto",), labeller="carl")
        github.state.late = 0
        yield github, repository, issue


@asynccontextmanager
async def world(folder: Path) -> AsyncIterator[World]:
    """The session waits at the gate of `plan-it`, which one approval passes."""
    async with AsyncExitStack() as stack:
        github, repository, issue = stack.enter_context(stand_in(folder))
        slack = stack.enter_context(SlackServer())
        home, settings = Home(folder / "home"), Settings()
        home.prepare()
        running = await stack.enter_async_context(system(home, settings, "a test", agents=False, effects=False))
        bus: NatsBus = await stack.enter_async_context(await connect(running.server.login("chatops"), name="chatops"))
        feed = await stack.enter_async_context(Feed(bus, "default").running())
        token = github.state.account("valuetrain[bot]").token
        client = GitHub("acme/wine", credentials=Token(token), base_url=github.url, delays=(0.01,))
        stack.callback(client.close)
        talk = GitHubConversation(client)
        ear = Spy(bus, "default", "acme/wine", feed.board, talk, feed.caught_up)
        start = datetime.now(UTC) - timedelta(seconds=1)
        listener = Listener(ear, talk, Position(home.path / "heard.json", start), 3600.0)
        listening = bind("127.0.0.1:0")
        web = WebClient("xoxb-a-token", base_url=f"{slack.url}/api/")
        poster = Poster(web, CHANNEL, home.path / "slack.json")
        webhook = Webhook(SECRET, "acme/wine", listener.hint)
        clicks = Clicks(CHANNEL, bus, "default", feed.board, poster)
        actions = SlackActions(SLACK_SECRET, clicks)
        await stack.enter_async_context(serving([webhook.route, actions.route], listening))
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        made = World(
            github,
            repository,
            issue,
            running,
            bus,
            ear,
            listener,
            feed,
            url,
            slack,
            poster,
            clicks,
            home,
            policy_of(github),
        )
        stack.push_async_callback(made.client.aclose)
        ticket = Ticket(
            id=issue.number, title=issue.title, requester="alice", origin="github:acme/wine",
            requester_id=github.state.account("alice").id, labeller_id=github.state.account("carl").id,
        )  # fmt: skip
        start_command = cmd.StartSession(
            ticket=ticket, ticket_digest="a" * 64, drive="d-1", pipeline=PIPELINE, policy=made.policy,
            policy_version="b" * 64, repository="/repository", base_commit="base", branch="phase/1", roots=(), seed=7,
        )  # fmt: skip
        assert (await made.send(start_command, "autopilot"))["accepted"]
        await made.work(Role.LEAD, "plan-it", ("plan.json",))
        await feed.caught_up()
        poster.bring_up_to_date(feed.board)
        yield made
