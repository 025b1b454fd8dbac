"""A code ticket without a patch, end to end: the whole system, a real endpoint on loopback, a kill -9 in the middle."""

from __future__ import annotations

import json
import os
import signal
import threading
from collections import Counter
from typing import Any

import pytest

from tests.integration.train import Train, make
from tests.openai_server.server import KEY, OpenAIServer
from tests.openai_server.steps import Asked, Call, Hangs, Says, Step
from tests.skills.code_project import ACCEPTANCE, FIXED, FIXED_TESTS, TITLE, write_project
from tests.workspace.bwrap import needs_bubblewrap

pytestmark = pytest.mark.slow
NOTE = "Use splitlines in shop/loader.py, since a file may end without a newline; add a test for that to the others."
REMARK = {"level": "minor", "where": "shop/loader.py:6", "what": "splits at form feeds, too"}
BUILD = (
    ("run_command", {"command": "date +%s%N && python -m pytest -q -p no:cacheprovider tests"}),
    ("write_file", {"path": "shop/loader.py", "text": FIXED}),
    ("write_file", {"path": "tests/test_loader.py", "text": FIXED_TESTS}),
    ("submit", {"summary": "rows are read with splitlines"}),
)
KILLED_AT = 3
"""Replies of phase `build` after which the drive is killed."""


class Endpoint:
    """Plays a model that does its work; while `held`, it does not answer the call after KILLED_AT."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.held = True

    def __call__(self, asked: Asked) -> Step:
        tools = {each["function"]["name"] for each in asked.body["tools"]}
        replies = sum(message["role"] == "assistant" for message in asked.body["messages"])
        if "report" in tools:
            return self._says("report", {"remarks": [REMARK]}, 0)
        if "write_file" not in tools:
            return self._says("submit", {"design": NOTE}, 0)
        if replies == KILLED_AT and self.held:
            self.reached.set()
            return Hangs()
        name, arguments = BUILD[replies]
        return self._says(name, arguments, replies)

    def _says(self, name: str, arguments: dict[str, Any], number: int) -> Says:
        return Says(calls=(Call(name, json.dumps(arguments), id=f"call-{number}"),), usage=(1000, 100, 0))


@pytest.fixture
def shop(tmp_path: Any) -> Train:
    needs_bubblewrap()
    train = make(tmp_path / "repository")
    write_project(train.repo)
    train.git("add", "--all", ":!backlog", ":!.valuetrain")
    train.git("commit", "--quiet", "-m", "A shop")
    place = train.repo / "backlog" / "acceptance" / "last_row.py"
    place.parent.mkdir(parents=True)
    place.write_text(ACCEPTANCE)
    train.ticket(1, TITLE, pipeline="software-change", acceptance_tests=["acceptance/last_row.py"])
    train.policy("approvers:\n  - name: dana\nmodels:\n  prices:\n    scripted-model: {input: 1, output: 10}\n")
    return train


def test_a_model_takes_a_ticket_to_a_branch_and_pays_each_call_once_over_a_kill(shop: Train) -> None:
    assert "model_base_url" in shop.run("drive", "--no-wait", "--planner", "llm").err
    endpoint = Endpoint()
    with OpenAIServer(endpoint) as server:
        shop.settings = {
            "VALUETRAIN_MODEL_BASE_URL": server.url, "VALUETRAIN_MODEL_NAME": "scripted-model",
            "VALUETRAIN_MODEL_KEY": KEY,
        }  # fmt: skip
        first = shop.start("drive", "--no-wait", "--planner", "llm", cold=False)
        try:
            assert endpoint.reached.wait(120), "the model was not asked so far"
        finally:
            os.kill(first.pid, signal.SIGKILL)
            first.communicate(timeout=30)
        endpoint.held = False
        ran = shop.run("drive", "--no-wait", "--planner", "llm", "--json")
        assert not server.problems
        asked = Counter(json.dumps(each.body["messages"]) for each in server.asked)
    (waiting,) = ran.json["waiting"]
    assert sorted(asked.values()) == [1] * 5 + [2], "only the call nobody heard the answer of is made again"
    assert sum(asked.values()) == 7
    for text in asked:
        assert KEY not in text
        assert "test_the_last_row_is_there" not in text, "the hidden test stays hidden"

    (row,) = shop.run("gate", "list", "--json").json
    assert row["touched"] == ["shop/loader.py", "tests/test_loader.py"]
    assert shop.run("gate", "approve", waiting["gate"], "--as", "dana", "--reason", "read it").code == 0
    (done,) = shop.run("drive", "--no-wait", "--json").json["completed"]
    branch, session = done["branch"], done["session"]
    assert shop.git("show", f"{branch}:shop/loader.py") == FIXED
    folder = f"{branch}:tickets/delivery_1/artifacts"
    assert NOTE in shop.git("show", f"{folder}/design/design-note.md")
    plan = json.loads(shop.git("show", f"{folder}/build/plan-build.json"))
    assert [step["tool"] for step in plan["steps"]] == [name for name, _ in BUILD]
    assert REMARK["what"] in shop.git("show", f"{folder}/evaluate/model-review.json")
    review = json.loads(shop.git("show", f"{folder}/evaluate/review-report.json"))
    assert set(review["acceptance"]["outcomes"].values()) == {"passed"}
    events = shop.run("session", "show", session, "--json").json
    assert session
    assert events
    replayed = shop.run("session", "replay", session, "--verify", "--json").json
    assert replayed["difference"] is None
