"""The documentation names what there is: commands, settings, policy fields, messages, skills, exit codes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.main import get_command

from cli.app import app
from cli.errors import Exit
from cli.settings import Settings
from schemas.policy import Approver, Policy

ROOT = Path(__file__).resolve().parents[2]
CLI = (ROOT / "docs" / "cli.md").read_text("utf-8")


def _commands() -> list[str]:
    root = get_command(app)
    context = typer.Context(root)
    found = []
    for name in root.list_commands(context):
        command = root.get_command(context, name)
        children = command.list_commands(context) if hasattr(command, "list_commands") else []
        found += [f"{name} {child}" for child in children] or [name]
    return found


@pytest.mark.parametrize("command", _commands())
def test_every_command_is_documented(command: str) -> None:
    assert f"{command} " in CLI or f"{command}`" in CLI, f"docs/cli.md does not name `valuetrain {command}`"


@pytest.mark.parametrize("name", sorted(Settings.model_fields))
def test_every_setting_is_documented(name: str) -> None:
    assert f"`{name}`" in CLI


@pytest.mark.parametrize("name", sorted({*Policy.model_fields, *Approver.model_fields}))
def test_every_policy_field_is_documented(name: str) -> None:
    assert f"`{name}`" in (ROOT / "docs" / "policy.md").read_text("utf-8")


@pytest.mark.parametrize("code", list(Exit))
def test_every_exit_code_is_documented(code: Exit) -> None:
    assert f"| {int(code)} |" in CLI


def test_the_reference_is_up_to_date() -> None:
    done = subprocess.run([sys.executable, "scripts/reference", "--check"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_readme_holds_a_real_transcript() -> None:
    readme = (ROOT / "README.md").read_text("utf-8")
    transcript = readme.split("<!-- transcript -->")[1].split("<!-- /transcript -->")[0]
    for words in ("valuetrain drive --no-wait", "waits for a person", "BLOCKED", "The demo took"):
        assert words in transcript
