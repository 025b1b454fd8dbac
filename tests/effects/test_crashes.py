"""Killed, or with the answer lost, after any single write of any effect: asked again, nothing happens twice."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from autopilot.at_origin import DONE, WORKING
from forge.errors import Ambiguous
from schemas.values import EffectKind, Posted
from tests.effects.conftest import Ground
from tests.github_server.faults import Fault
from workspace.git import claim_branch
from workspace.pushing import RemoteAway

ROOT = Path(__file__).resolve().parents[2]
PUSH = r"\.git/git-receive-pack$"
WRITES: list[tuple[EffectKind, str, str]] = [
    ("claim", "POST", PUSH),
    ("claim", "POST", "/assignees"),
    ("claim", "POST", "/labels"),
    ("publish", "POST", PUSH),
    ("publish", "POST", "/pulls$"),
    ("announce", "POST", "/comments"),
    ("ready", "POST", "graphql"),
    ("finish", "POST", "/labels"),
    ("finish", "DELETE", "/labels/"),
    ("finish", "DELETE", "/assignees"),
    ("finish", "POST", PUSH),
    ("withdraw", "PATCH", "/pulls/"),
    ("withdraw", "POST", PUSH),
    ("release", "DELETE", "/labels/"),
    ("release", "POST", PUSH),
]


def world(ground: Ground) -> dict[str, Any]:
    """What is at the forge, without what differs from run to run."""
    repository = ground.repository
    return {
        "branches": sorted(ground.heads()),
        "labels": ground.issue.labels,
        "assignees": [a.login for a in ground.issue.assignees],
        "comments": len(ground.issue.comments),
        "pulls": [(it.state, it.pull.draft) for it in repository.issues.values() if it.pull],
        "state": ground.issue.state,
    }


def expected(ground: Ground, kind: EffectKind) -> dict[str, Any]:
    """What is there after `kind`, which came after what it presupposes."""
    branch, claim = ground.row.branch, claim_branch(1)
    base = {"branches": ["main"], "labels": ["Task", "auto"], "assignees": [], "comments": 0, "pulls": [],
            "state": "open"}  # fmt: skip
    claimed = base | {"branches": ["main", claim], "labels": ["Task", "auto", WORKING], "assignees": ["train-bot"]}
    published = claimed | {"branches": ["main", claim, branch], "pulls": [("open", True)]}
    return {
        "claim": claimed,
        "publish": published,
        "announce": published | {"comments": 1},
        "ready": published | {"pulls": [("open", False)]},
        "finish": base | {"branches": ["main", branch], "labels": ["Task", "auto", DONE], "pulls": [("open", True)]},
        "withdraw": claimed | {"pulls": [("closed", True)]},
        "release": base | {"branches": ["main", branch], "pulls": [("open", True)]},
    }[kind]


@pytest.mark.parametrize(
    ("kind", "verb", "path", "lost"),
    [*((*each, "drop_after") for each in WRITES), *((*WRITES[n], "drop_before") for n in (0, 4))],
)
def test_a_lost_answer_is_looked_up(ground: Ground, kind: EffectKind, verb: str, path: str, lost: Any) -> None:
    tip = ground.commit({"tickets/delivery_1/plan.md": b"a plan\n"}, "e1")
    known = Posted()
    if kind != "claim":
        ground.do("claim")
        if kind != "publish":
            known = ground.do("publish", target=tip)
    fault = ground.server.fail(Fault(lost, verb, path, times=2 if path == PUSH else 1))  # git itself tries once more
    with pytest.raises((Ambiguous, RemoteAway)):
        ground.do(kind, known, tip)
    assert fault.happened == fault.times
    ground.do(kind, known, tip)
    assert world(ground) == expected(ground, kind)
    ground.server.forget()
    ground.do(kind, known, tip)
    writes = [s for s in ground.server.log.seen if s.verb != "GET" and "upload-pack" not in s.path]
    assert not writes, "once done, nothing is sent again"


@pytest.mark.slow
def test_killed_after_every_write(ground: Ground) -> None:
    """One process after the other, each killed after its first write, finishes what the one before began."""
    tip = ground.commit({"tickets/delivery_1/plan.md": b"a plan\n"}, "e1")
    token = ground.server.state.account("train-bot").token

    def run(kinds: str) -> dict[str, int]:
        done = subprocess.run(
            [sys.executable, "-m", "tests.effects.killed", ground.server.url, token, str(ground.clone),
             ground.row.base_commit, tip, kinds],
            cwd=ROOT, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=180,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        told: dict[str, int] = json.loads(done.stdout)
        return told

    kills = run("claim,publish,announce,ready")
    assert world(ground) == expected(ground, "ready") | {"comments": 1}
    assert set(kills) == {"claim", "publish", "announce", "ready"}
    kills = run("withdraw,release")
    assert world(ground) == expected(ground, "claim") | {
        "branches": ["main"], "labels": ["Task", "auto"], "assignees": [], "comments": 1, "pulls": [("closed", False)],
    }  # fmt: skip
    assert min(kills.values()) >= 1
