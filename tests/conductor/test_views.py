"""Read models: what lists show of a session and of a gate."""

from __future__ import annotations

import json

from conductor.state import initial
from conductor.views import gate_view, session_view
from tests.conductor.rig import DANA, Rig


def test_a_session_that_waits() -> None:
    rig = Rig().to("build-it")
    rig.work()
    view = session_view(rig.state, rig.now)
    assert view | {
        "session": "s12-abcde", "ticket": 12, "title": "Flag malignant tumours", "risk": "low", "pipeline": "small",
        "drive": "d-1", "status": "waiting", "stage": "gate", "phase": "build-it", "agent": "training", "attempt": 1,
        "gate": "s12-abcde.build-it.1", "repository": "/repository", "branch": "phase/12", "commit": "commit-3",
        "pending_effects": 0, "cost_usd": 0.022, "seconds": 12.0, "interventions": 0,
        "version": rig.state.version,
    } == view  # fmt: skip
    assert view["updated"].startswith("2026-11-21T09:00:")
    assert view["phases"][0] == {
        "phase": "plan-it", "completed": True, "skipped": False, "attempt": 1, "summary": "plan-it done", "blocked": "",
    }  # fmt: skip
    assert view["measured"]["metrics"] == {"rows": 20.0, "recall": 0.95}
    assert json.loads(json.dumps(view)) == view


def test_a_session_that_has_not_started() -> None:
    view = session_view(initial("s1"), Rig().now)
    assert (view["session"], view["ticket"], view["status"], view["agent"]) == ("s1", None, "new", "")
    assert view["gate"] is None


def test_a_gate_and_who_may_decide_it() -> None:
    rig = Rig().to("build-it")
    rig.work()
    rig.decide("approve", DANA)
    gate = rig.state.open_gate
    assert gate is not None
    view = gate_view(rig.state, gate)
    assert view | {
        "gate": "s12-abcde.build-it.1", "session": "s12-abcde", "ticket": 12, "phase": "build-it", "kind": "human",
        "status": "open", "quorum": 2, "approvals": ["dana"], "decided_by": "", "commit": "commit-3",
        "may_decide": ["dana", "erik", "low (up to low risk)", "builder (build-it)", "guarded"],
        "reason": "the pipeline asks for a person here",
    } == view  # fmt: skip
    assert list(view["artifacts"]) == ["model.bin", "proof.json", "proof.json.dsse.json"]
    assert json.loads(json.dumps(view)) == view


def test_a_gate_without_its_session() -> None:
    rig = Rig().to("build-it")
    rig.work()
    gate = rig.state.open_gate
    assert gate is not None
    view = gate_view(initial("s1"), gate)
    assert (view["ticket"], view["title"], view["may_decide"]) == (None, "", [])
