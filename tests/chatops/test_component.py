"""`valuetrain chatops run` as a process of its own beside a running system: comments, a webhook, the end; and what it
says when it cannot begin."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from cli.errors import CliError
from cli.home import Home
from cli.settings import Settings, load
from cli.supervising import environment_of
from cli.talking import check, secret
from cli.topology import components
from tests.chatops.slack_server import APP_TOKEN, TOKEN
from tests.chatops.world import CHANNEL, SECRET, World, world
from tests.integration.warm import POSSIBLE, warm
from tests.ports import free_port

BACKLOG = "github:acme/wine"


async def start(on: World, port: int, folder: Path) -> subprocess.Popen[str]:
    """Chat-ops over GitHub, with a webhook."""
    token = folder / "token"
    token.write_text(on.github.state.account("valuetrain[bot]").token, "utf-8")
    token.chmod(0o600)
    environment = {
        "VALUETRAIN_GITHUB_URL": on.github.url,
        "VALUETRAIN_GITHUB_TOKEN_FILE": str(token),
        "VALUETRAIN_GITHUB_WEBHOOK_SECRET": SECRET,
        "VALUETRAIN_CHATOPS_LISTEN": f"127.0.0.1:{port}",
        "VALUETRAIN_CHATOPS_POLL_SECONDS": "3600",
    }
    return await run(on, environment, "--backlog", BACKLOG)


async def run(on: World, environment: dict[str, str], *words: str) -> subprocess.Popen[str]:
    words = ("chatops", "run", *words, "--home", str(on.home.path))
    root = Path(__file__).parents[2]
    if POSSIBLE:
        return await anyio.to_thread.run_sync(lambda: warm().start(words, root, os.environ | environment))
    return subprocess.Popen(  # noqa: ASYNC220
        [sys.executable, "-m", "cli.main", *words],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=root,
    )


async def test_it_hears_what_was_written_before_and_what_a_webhook_hints_at(tmp_path: Path) -> None:
    async with world(tmp_path) as on:
        on.say("/hold until I am back")
        port = free_port()
        process = await start(on, port, tmp_path)
        try:
            assert process.stdout is not None
            line = await anyio.to_thread.run_sync(process.stdout.readline)
            assert line == "chatops is serving; stop it with Ctrl-C\n", process.stderr and process.stderr.read()
            assert (await on.gate()).held, "heard before it said that it serves"
            second = await start(on, free_port(), tmp_path)
            told = (await anyio.to_thread.run_sync(second.communicate))[1]
            assert second.returncode == 1
            assert "chat-ops (process" in told
            on.url = f"http://127.0.0.1:{port}"
            assert (await on.client.get(f"{on.url}/health")).text == "ok\n"
            assert await on.post(on.payload(on.say("/unhold")), secret="another secret") == 401
            assert await on.post(on.payload(on.issue.comments[-1])) == 202
            with anyio.fail_after(60):
                while (await on.gate()).held:
                    await on.running.conductor.committed.wait()
            process.send_signal(signal.SIGTERM)
            await anyio.to_thread.run_sync(process.wait)
            assert process.returncode == 0
        finally:
            process.kill()
            process.wait()
        log = on.home.log.read_text("utf-8") + (process.stderr.read() if process.stderr else "")
        token = on.github.state.account("valuetrain[bot]").token
        assert token not in log
        assert SECRET not in log


async def test_slack_needs_no_way_to_reach_it(tmp_path: Path) -> None:
    async with world(tmp_path) as on:
        app_token = tmp_path / "token"
        app_token.write_text(f"{APP_TOKEN}\n", "utf-8")
        app_token.chmod(0o600)
        environment = {
            "VALUETRAIN_SLACK_URL": f"{on.slack.url}/api",
            "VALUETRAIN_SLACK_CHANNEL": CHANNEL,
            "VALUETRAIN_SLACK_TOKEN": TOKEN,
            "VALUETRAIN_CHATOPS_LISTEN": "nowhere at all",
        }
        refused = await run(on, environment | {"VALUETRAIN_SLACK_APP_TOKEN": "xapp-of-another-app"})
        told = (await anyio.to_thread.run_sync(refused.communicate))[1]
        assert refused.returncode == 1
        assert "Slack refuses the connection: invalid_auth" in told
        while not on.slack.posted.empty():
            on.slack.posted.get()
        process = await run(on, environment | {"VALUETRAIN_SLACK_APP_TOKEN_FILE": str(app_token)})
        try:
            assert process.stdout is not None
            line = await anyio.to_thread.run_sync(process.stdout.readline)
            assert line == "chatops is serving; stop it with Ctrl-C\n", process.stderr and process.stderr.read()
            gate = on.click("approve", "U0DANA", "s1-abcde.plan-it.1")
            thread, message = [
                await anyio.to_thread.run_sync(partial(on.slack.posted.get, timeout=60)) for _ in range(2)
            ]
            assert thread != message
            gate["container"]["message_ts"] = message
            for _ in range(100):  # the message is there before its time stamp is known
                await anyio.to_thread.run_sync(on.slack.push, on.slack.envelope("e1", gate))
                await anyio.to_thread.run_sync(partial(on.slack.acknowledged.get, timeout=60))
                if (await on.state()).gates["s1-abcde.plan-it.1"].status == "passed":
                    break
            (approval,) = (await on.state()).gates["s1-abcde.plan-it.1"].approvals
            assert approval.by.verified_as == "slack:U0DANA"
            process.send_signal(signal.SIGTERM)
            await anyio.to_thread.run_sync(process.wait)
            assert process.returncode == 0
        finally:
            process.kill()
            process.wait()
        log = on.home.log.read_text("utf-8") + told + (process.stderr.read() if process.stderr else "")
        assert "slack_connected" in log
        assert [secret for secret in (APP_TOKEN, TOKEN, "xapp-of-another-app", "ticket-") if secret in log] == []


def settings(**values: object) -> Settings:
    return Settings.model_validate(values)


@pytest.mark.parametrize(
    ("values", "backlog", "why"),
    [
        ({}, None, "there is nothing to listen to"),
        ({}, "backlog", "comments are at GitHub"),
        ({"slack_channel": "C0123"}, None, "for Slack set slack_channel, slack_token, and slack_app_token"),
        ({"slack_channel": "C0123", "slack_app_token": "xapp-1"}, None, "for Slack set slack_channel"),
        ({"slack_token": "xoxb-a-token"}, BACKLOG, "for Slack set slack_channel"),
    ],
)
def test_what_it_needs(values: dict[str, object], backlog: str | None, why: str) -> None:
    with pytest.raises(CliError, match=why):
        check(settings(**values), backlog)


def test_secrets_come_from_files_only_we_may_read_or_from_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text("a long secret\n", "utf-8")
    file.chmod(0o644)
    with pytest.raises(CliError, match="can be read by others"):
        secret("slack_token", None, file)
    file.chmod(0o600)
    assert secret("slack_token", None, file) == "a long secret"
    assert secret("slack_token", None, None) == ""
    file.write_text("\n", "utf-8")
    with pytest.raises(CliError, match="too short"):
        secret("github_webhook_secret", None, file)
    config = tmp_path / "config.yaml"
    config.write_text("slack_signing_secret: shh\n", "utf-8")
    with pytest.raises(CliError, match="belongs into the environment") as refused:
        load(config)
    assert "shh" not in str(refused.value)


def test_up_runs_it_where_there_is_something_to_hear(tmp_path: Path) -> None:
    home = Home(tmp_path)

    def kinds(backlog: str | None, slack: bool = False) -> list[str]:
        return [child.kind for child in components(home, 1, {}, backlog, None, None, slack=slack)[1]]

    assert "chatops" in kinds(BACKLOG)
    assert "chatops" in kinds(None, slack=True)
    assert "chatops" not in kinds("backlog")


def test_what_can_write_stays_with_the_effect_executor(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("GITHUB_TOKEN", "GITHUB_URL", "GITHUB_WEBHOOK_SECRET", "SLACK_TOKEN", "SLACK_APP_TOKEN"):
        monkeypatch.setenv(f"VALUETRAIN_{name}", "x")

    def given(kind: str) -> set[str]:
        ours = ("VALUETRAIN_GITHUB_", "VALUETRAIN_SLACK_")
        return {name.removeprefix("VALUETRAIN_") for name in environment_of(kind) if name.startswith(ours)}

    everything = {"GITHUB_TOKEN", "GITHUB_URL", "GITHUB_WEBHOOK_SECRET", "SLACK_TOKEN", "SLACK_APP_TOKEN"}
    assert given("agent") == given("conductor") == set()
    assert given("autopilot") == {"GITHUB_TOKEN", "GITHUB_URL"}
    assert given("chatops") == everything, "there is no other token to read with"
    monkeypatch.setenv("VALUETRAIN_GITHUB_READ_TOKEN", "y")
    assert given("chatops") == everything - {"GITHUB_TOKEN"} | {"GITHUB_READ_TOKEN"}
