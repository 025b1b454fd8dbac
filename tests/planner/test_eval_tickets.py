"""Every ticket of the evaluation is one: its hidden test fails before, and passes with the reference."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from agents.skills.change.junit import read_junit
from benchmarks.tickets.loading import CodeTicket, tickets
from benchmarks.tickets.running import Run, summary
from tests.openai_server.server import KEY, OpenAIServer
from tests.openai_server.steps import Asked, Call, Says, Step
from tests.workspace.bwrap import needs_bubblewrap

ROOT = Path(__file__).resolve().parents[2]
TICKETS = tickets()


def outcomes(ticket: CodeTicket, folder: Path, *, done: bool) -> tuple[set[str], set[str]]:
    """The project's tests that fail, and the hidden ones that do."""
    ticket.write(folder, done=done)
    (folder / "hidden").mkdir()
    (folder / "hidden" / "test_hidden.py").write_text(ticket.hidden)
    report = folder.parent / f"{done}.xml"
    subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}"],
        cwd=folder, capture_output=True, check=False,
        env={"PATH": os.environ["PATH"], "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    failed = {name for name, outcome in read_junit(report).items() if outcome == "failed"}
    hidden = {name for name in failed if "hidden.test_hidden" in name}
    return failed - hidden, hidden


def test_there_are_enough_of_them() -> None:
    assert len(TICKETS) >= 12
    assert len({ticket.title for ticket in TICKETS}) == len(TICKETS)


@pytest.mark.parametrize("ticket", TICKETS, ids=lambda ticket: ticket.name)
def test_the_hidden_test_tells_done_from_not_done(ticket: CodeTicket, tmp_path: Path) -> None:
    before = outcomes(ticket, tmp_path / "before", done=False)
    assert before[0] == set(), "the project's own tests pass"
    assert before[1] != set(), "the hidden test fails"
    assert outcomes(ticket, tmp_path / "after", done=True) == (set(), set())
    assert set(ticket.reference) <= set(ticket.files)


def test_without_an_endpoint_nothing_is_measured_and_it_says_so(tmp_path: Path) -> None:
    def said() -> tuple[int, str]:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.tickets", "--home", str(tmp_path)],
            cwd=ROOT, capture_output=True, text=True, check=False,
            env={name: value for name, value in os.environ.items() if not name.startswith("VALUETRAIN_")},
        )  # fmt: skip
        assert done.stdout == ""
        return done.returncode, done.stderr

    code, why = said()
    assert (code, "no endpoint is configured, so nothing is measured" in why) == (2, True)
    (tmp_path / "config.yaml").write_text("model_base_url: http://127.0.0.1:9/v1\nmodel_name: none\n")
    code, why = said()
    assert (code, "no price is configured, so nothing is measured" in why) == (2, True)


@pytest.mark.slow
def test_the_command_measures_an_endpoint_ticket_by_ticket(tmp_path: Path) -> None:
    """The whole of `make eval` on one ticket whose model knows the reference, and on one whose model declines."""
    needs_bubblewrap()
    solved, declined = (next(t for t in TICKETS if t.name == name) for name in ("csv-last-row", "median-even"))

    def model(asked: Asked) -> Step:
        tools = {each["function"]["name"] for each in asked.body["tools"]}
        if declined.title in json.dumps(asked.body["messages"][1]):
            return Says(refusal="I would rather not")
        replies = sum(message["role"] == "assistant" for message in asked.body["messages"])
        files = list(solved.reference.items())
        if "report" in tools:
            return calls("report", remarks=[])
        if "write_file" not in tools:
            return calls("submit", design="Split the text by lines, whether or not it ends with one, and test that.")
        if replies < len(files):
            path, text = files[replies]
            return calls("write_file", path=path, text=text)
        return calls("submit", summary="as the ticket asks")

    def calls(name: str, **arguments: object) -> Says:
        return Says(calls=(Call(name, json.dumps(arguments)),))

    with OpenAIServer(model) as server:
        (tmp_path / "config.yaml").write_text(f"model_base_url: {server.url}\nmodel_name: scripted-model\n")
        (tmp_path / "policy.yaml").write_text("models:\n  prices:\n    scripted-model: {input: 1, output: 10}\n")
        done = subprocess.run(
            [
                sys.executable, "-m", "benchmarks.tickets", "--runs", "1", "--home", str(tmp_path),
                "--output", str(tmp_path / "eval.json"), solved.name, declined.name,
            ],
            cwd=ROOT, capture_output=True, text=True, check=False, env=os.environ | {"VALUETRAIN_MODEL_KEY": KEY},
        )  # fmt: skip
        assert not server.problems
    assert done.returncode == 0, done.stderr
    assert "solved: 50.0% (one run: no standard error)" in done.stdout
    (run,) = json.loads((tmp_path / "eval.json").read_text())["runs"]
    assert run["solved"] == [solved.name]
    assert "declined" in run["reasons"][declined.name]
    assert run["usd"] > 0
    assert KEY not in done.stdout + done.stderr


def test_what_several_runs_come_to() -> None:
    chosen = TICKETS[:4]
    names = [ticket.name for ticket in chosen]
    runs = [Run(frozenset(names[:n]), {}, 0.0) for n in (1, 2, 3)]
    lines = summary(chosen, runs)
    assert lines[0].split() == [names[0], "3", "of", "3"]
    assert lines[3].split() == [names[3], "0", "of", "3"]
    assert lines[-1] == "solved: 50.0% ± 14.4% (mean ± SEM over 3 runs)"
    assert summary(chosen, runs[:1])[-1] == "solved: 25.0% (one run: no standard error)"
