"""Pause, hold, priority and drain on a real train, by the command line; a graph of phases of a user's own."""

from __future__ import annotations

from tests.integration.test_crash import _line
from tests.integration.train import Train

GRAPH = """\
name: forked
description: Scope, then the source and an optional second look at the same time, then both join.
phases:
  - name: scope
    agent: lead
    mode: scope
    purpose: Fix what is predicted.
    skills: [lead.scope]
    artifacts: [scope.json, scope.md]
    checklist:
      - {id: target-named, text: The target is named}
      - {id: metric-chosen, text: A metric is chosen}
      - {id: acceptance-agreed, text: Criteria can be measured}
      - {id: budget-set, text: Limits are set}
    gate: {human: always}
  - name: data-sources
    agent: data
    mode: design
    purpose: Establish where the rows come from.
    skills: [data.source]
    artifacts: [data-source.json, data-sources.md]
    checklist:
      - {id: source-allowed, text: The source is allowed}
      - {id: provenance-recorded, text: Its origin is recorded}
      - {id: synthetic-labelled, text: Generated data is labelled, required: false}
    idle_seconds: 3.0
    after: [scope]
  - name: second-look
    agent: lead
    mode: scope
    purpose: Scope once more.
    skills: [lead.scope]
    skip_when: ticket.risk == "low"
    after: [scope]
  - name: extraction
    agent: data
    mode: build
    purpose: Read every row once.
    skills: [data.extract]
    artifacts: [dataset.parquet, schema-spec.json]
    checklist:
      - {id: rows-read, text: All rows were read}
      - {id: schema-recorded, text: The schema is recorded}
    after: [data-sources, second-look]
"""


def test_a_forked_pipeline_under_control(train: Train) -> None:
    folder = train.home / "pipelines"
    folder.mkdir(exist_ok=True)
    (folder / "forked.yaml").write_text(GRAPH, "utf-8")
    train.ticket(1, "Predict a vote", data=train.data("votes.csv"), target="vote", pipeline="forked")
    idle = train.run("drive", "drain")
    assert (idle.code, "nothing is recorded" in idle.err) == (1, True), idle.err

    waiting = train.start("drive", "--wait", cold=False)
    _line(waiting, "waits for a person")
    (listed,) = train.run("gate", "list", "--json").json
    gate, session = str(listed["gate"]), str(listed["session"])
    assert train.run("drive", "drain", "--as", "mallory").code == 5, "the policy does not name them"
    drained = train.run("drive", "drain", "--as", "dana", "--reason", "maintenance", "--json")
    assert drained.code == 0, drained.err
    out, err = waiting.communicate(timeout=120)
    assert waiting.returncode == 3, out + err
    assert "took no more tickets: drained by dana: maintenance" in out

    assert train.run("gate", "hold", gate, "--as", "mallory").code == 5
    assert train.run("gate", "hold", gate, "--as", "dana").code == 0
    refused = train.run("gate", "approve", gate, "--as", "dana")
    assert (refused.code, "is held" in refused.err) == (1, True)
    assert train.run("gate", "unhold", gate, "--as", "dana").code == 0
    assert train.run("session", "pause", session, "--as", "dana", "--reason", "not yet").code == 0
    assert train.run("session", "pause", session, "--as", "dana").code == 1
    assert train.run("gate", "approve", gate, "--as", "dana").code == 0
    paused = train.run("drive", "--json")
    assert paused.code == 4, paused.out
    assert paused.json["blocked"][0]["reason"] == "paused by dana: not yet"
    assert train.run("session", "reassign", session, "--as", "dana").code == 2, "nobody works on it"
    assert train.run("session", "priority", session, "now", "--as", "dana").code == 0
    assert train.run("session", "resume", session, "--as", "dana").code == 0

    # What somebody writes into the ticket's folder is said, written anew, and changes nothing.
    (folder,) = (train.home / "worktrees" / session / "tickets").iterdir()
    (folder / "checklist.md").write_text("- [x] all is well\n")
    (folder / "mine.txt").write_text("a note")

    done = train.run("drive", "--json")
    assert done.code == 0, done.out + done.err
    found = [e["data"]["files"] for e in train.run("tail", "--json").json if e["type"] == "hand_edits_found"]
    added = f"tickets/{folder.name}/mine.txt"
    assert found == [[f"tickets/{folder.name}/checklist.md", added], [added]], "nobody's file is deleted"
    assert done.json["automation_rate"] == 0.0
    row = train.run("session", "show", session, "--json").json
    assert [p["phase"] for p in row["phases"] if p["completed"]] == ["scope", "data-sources", "extraction"]
    assert [p["phase"] for p in row["phases"] if p["skipped"]] == ["second-look"]
    over = train.run("drive", "drain")
    assert (over.code, "there is nothing to drain" in over.err) == (1, True), over.err
    assert train.run("session", "replay", session, "--verify", "--json").json["difference"] is None
    assert "Automation rate: 0% (0 of 1" in train.run("session", "list").out
