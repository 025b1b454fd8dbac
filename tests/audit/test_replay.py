"""`session replay --at` and `session diff`: what was when, and what changed in between."""

from __future__ import annotations

from datetime import timedelta

import pytest

from conductor.compare import differences
from schemas.envelope import timestamp
from tests.audit.homes import STREAM, Place

S = STREAM.name


def numbers(place: Place, kind: str) -> list[int]:
    return [e.sequence for e in place.rig.log if e.type == kind]


def test_replay_at_a_time_is_replay_to_the_last_event_then(place: Place) -> None:
    done = numbers(place, "phase_completed")[0]
    time = place.rig.log[done - 1].time
    last = max(e.sequence for e in place.rig.log if e.time == time)
    assert place.run("session", "replay", S, "--at", timestamp(time)) == place.run(
        "session", "replay", S, "--to", str(last)
    )
    code, before = place.run("session", "replay", S, "--at", timestamp(time - timedelta(microseconds=1)))
    assert (code, before["phases"][0]["completed"]) == (0, False)
    end = (time + timedelta(days=1)).astimezone().isoformat()
    assert place.run("session", "replay", S, "--at", end)[1]["status"] == "completed"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--at", "yesterday"], "no time"),
        (["--at", "2026-11-21T09:00:00"], "no time zone"),
        (["--at", "2020-01-01T00:00:00Z"], "there was nothing"),
        (["--at", "2026-11-21T09:00:00Z", "--to", "3"], "give one"),
        (["--to", "999"], "has events 1 to"),
    ],
)
def test_what_cannot_be_replayed_is_explained(place: Place, words: list[str], said: str) -> None:
    code, document = place.run("session", "replay", S, *words)
    assert code == 2
    assert said in document["error"]["message"]


def test_diff_names_what_changed(place: Place) -> None:
    first, second = numbers(place, "phase_completed")[:2]
    code, document = place.run("session", "diff", S, str(first), str(second))
    assert code == 0
    changes = {(c["kind"], c["name"]): (c["before"], c["after"]) for c in document["changes"]}
    digests = {n: place.rig.state.artifacts[n].sha256 for n in ("model.bin", "proof.json", "proof.json.dsse.json")}
    assert {name: after for (kind, name), (_, after) in changes.items() if kind == "artifact"} == digests
    assert changes["gate", f"{S}.build-it.1"] == (
        None,
        {"status": "passed", "held": False, "approvals": ["dana", "erik"], "decided_by": "dana, erik"},
    )
    was, now = changes["phase", "build-it"]
    assert (was["completed"], now["completed"]) == (False, True)
    assert ("phase", "plan-it") not in changes
    assert changes["cost", "decisions"] == (0, 2)
    said = place.say("session", "diff", S, str(first), str(second))
    assert f"+ artifact model.bin: {digests['model.bin']}" in said
    assert "~ session phase: plan-it -> build-it" in said


def test_diff_backwards_is_the_opposite_and_with_itself_nothing(place: Place) -> None:
    forth = place.run("session", "diff", S, "3", "20")[1]["changes"]
    back = place.run("session", "diff", S, "20", "3")[1]["changes"]
    key = str
    assert sorted(({**c, "before": c["after"], "after": c["before"]} for c in back), key=key) == sorted(forth, key=key)
    assert place.run("session", "diff", S, "7", "7")[1]["changes"] == []
    assert "no changes" in place.say("session", "diff", S, "7", "7")
    assert place.run("session", "diff", S, "0", "7")[0] == 2


def test_a_figure_that_changed_is_one_line(place: Place) -> None:
    from dataclasses import replace

    state = place.rig.state
    other = replace(state, measured={"metrics": {"recall": 0.5}})
    (recall,) = [d for d in differences(state, other) if d.name == "metrics.recall"]
    assert recall.line() == "~ figure metrics.recall: 0.95 -> 0.5"
    assert [d.kind for d in differences(state, replace(state, acceptance=("a > 1.0",)))] == ["acceptance"] * 2
