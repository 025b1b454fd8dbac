"""A session whose model got stuck, forked with another model and a hint: end to end, on a real record."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.train import Train
from tests.openai_server.server import KEY, OpenAIServer
from tests.openai_server.steps import Asked, Step
from tests.planner.test_drive import Endpoint, shop
from tests.skills.code_project import FIXED

pytestmark = pytest.mark.slow
HINT = "Look at how the loader splits its text into rows."
__all__ = ["shop"]


class Two(Endpoint):
    """Two models at one endpoint: the first only ever looks at the same file, the second does the work."""

    def __init__(self) -> None:
        super().__init__()
        self.held = False

    def __call__(self, asked: Asked) -> Step:
        building = "write_file" in {each["function"]["name"] for each in asked.body["tools"]}
        if asked.body["model"] == "better-model" or not building:
            return super().__call__(asked)
        return self._says("read_file", {"path": "shop/loader.py"}, len(asked.body["messages"]))


def systems(asked: list[Asked]) -> list[str]:
    return [each.body["messages"][0]["content"] for each in asked]


def test_a_fork_goes_on_with_another_model_and_leaves_its_origin_as_it_was(shop: Train, tmp_path: Any) -> None:
    prices = "approvers:\n  - name: dana\nmodels:\n  prices:\n"
    shop.policy(f"{prices}    scripted-model: {{input: 1, output: 10}}\n    better-model: {{input: 2, output: 20}}\n")
    hint = tmp_path / "hint.md"
    hint.write_text(f"{HINT}\n")
    with OpenAIServer(Two()) as server:
        shop.settings = {
            "VALUETRAIN_MODEL_BASE_URL": server.url, "VALUETRAIN_MODEL_NAME": "scripted-model",
            "VALUETRAIN_MODEL_KEY": KEY,
        }  # fmt: skip
        (stuck,) = shop.run("drive", "--no-wait", "--planner", "llm", "--json").json["blocked"]
        assert "stuck" in stuck["reason"]
        source = stuck["session"]
        before = shop.run("session", "show", source, "--json").json
        old = shop.git("rev-parse", before["branch"]).strip()
        asked = len(server.asked)

        fork = ("session", "fork", source, "--as", "dana", "--json")
        assert shop.run(*fork[:3], "--as", "mallory", "--from", "build").code == 5
        made = shop.run(*fork, "--from", "build", "--model", "better-model", "--prompt", str(hint)).json
        assert (made["source"], made["kept"], made["asked_again"]) == (source, ["scope", "design"], [])
        assert len(server.asked) == asked, "making a fork asks no model"

        # The settings still say playbook: who made the fork chose the planner and the model.
        ran = shop.run("drive", "--no-wait", "--json")
        assert not server.problems
        mine = server.asked[asked:]
        assert {each.body["model"] for each in mine} == {"better-model"}
        guided = [HINT in text for text in systems(mine)]
        assert guided == [True] * 4 + [False], "four replies of the build; the review is led by nobody"
    (waiting,) = ran.json["waiting"]
    assert waiting["session"] == made["session"]
    assert ran.json["blocked"] == [], "the fork took the place of the session that was stuck"

    assert shop.run("gate", "approve", waiting["gate"], "--as", "dana").code == 0
    (done,) = shop.run("drive", "--no-wait", "--json").json["completed"]
    branch = done["branch"]
    assert shop.git("show", f"{branch}:shop/loader.py") == FIXED
    log = shop.git("log", "--format=%s", f"{old}..{branch}").splitlines()
    assert log[-1].startswith(f"Fork of session {source} after event {made['from']}")
    assert made["hash"] in shop.git("log", "--format=%b", f"{old}..{branch}")
    shown = shop.git("show", f"{branch}:tickets/delivery_1/ACTIVE_SESSION.md")
    assert f"forked_from: {source} after event {made['from']}" in shown
    assert "design-note.md" in shop.git("ls-tree", "-r", "--name-only", branch, "tickets/delivery_1")

    # The endpoint is gone: replay needs none. And the other session is as it was.
    assert shop.run("session", "replay", done["session"], "--verify", "--json").json["difference"] is None
    assert shop.run("session", "show", source, "--json").json == before
    assert shop.git("rev-parse", before["branch"]).strip() == old
    bill = shop.run("session", "show", done["session"], "--json").json
    assert 0 < bill["cost_usd"] < 1
    assert bill["forked_from"]["session"] == source
