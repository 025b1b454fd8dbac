"""A recorded session as OpenLineage: every attempt starts and ends, and what one phase wrote another reads."""

from __future__ import annotations

import json
import uuid
from datetime import datetime
from pathlib import Path

from agents.discovery import shipped
from cli.lineage import run_events
from schemas import registry as _registry  # noqa: F401  # declares every message before any is decoded
from schemas.envelope import EventEnvelope, decode_event
from schemas.messages import Event
from schemas.registry import EVENTS
from schemas.session import AttemptFailed, PhaseStarted, WorkReported

HISTORY = Path(__file__).resolve().parents[1] / "golden" / "ml-delivery.history.jsonl"


def history() -> list[EventEnvelope[Event]]:
    lines = HISTORY.read_text("utf-8").splitlines()
    return [decode_event(line.encode()) for line in lines if json.loads(line)["type"] in EVENTS]


def test_every_attempt_starts_and_ends_once_for_each_time_it_did() -> None:
    envelopes = history()
    found = run_events(envelopes, shipped())
    kinds = [type(each.event) for each in envelopes]
    told = [event["eventType"] for event in found]
    assert told.count("START") == kinds.count(PhaseStarted) > 10
    assert told.count("COMPLETE") == kinds.count(WorkReported)
    assert told.count("FAIL") == kinds.count(AttemptFailed)
    assert [e["eventTime"] for e in found] == sorted(e["eventTime"] for e in found)
    for event in found:
        assert set(event) >= {"eventType", "eventTime", "run", "job", "inputs", "outputs", "producer", "schemaURL"}
        assert datetime.fromisoformat(event["eventTime"]).tzinfo is not None
        assert str(uuid.UUID(event["run"]["runId"])) == event["run"]["runId"]
        assert all(data["namespace"] and data["name"] for data in event["inputs"] + event["outputs"])
        assert event["eventType"] != "FAIL" or event["run"]["facets"]["errorMessage"]["message"]


def test_what_a_phase_reads_some_phase_wrote_with_the_same_digest() -> None:
    written: set[tuple[str, str]] = set()
    source = False
    for event in run_events(history(), shipped()):
        for data in event["inputs"]:
            if data["namespace"] == "value-train-source":
                source = True
                continue
            assert (data["name"], data["facets"]["version"]["datasetVersion"]) in written
        written |= {(data["name"], data["facets"]["version"]["datasetVersion"]) for data in event["outputs"]}
    assert source
    assert len(written) > 10


def test_a_phase_reads_only_what_its_skills_declare_and_unknown_skills_may_read_all() -> None:
    envelopes = history()
    known = {event["job"]["name"]: event for event in run_events(envelopes, shipped())}
    unknown = {event["job"]["name"]: event for event in run_events(envelopes, {})}
    names = {data["name"].rpartition("/")[2] for data in known["ml-delivery.model-architecture"]["inputs"]}
    assert names <= {*shipped()["training.plan"].needs, *shipped()["training.plan"].optional}
    assert len(unknown["ml-delivery.model-architecture"]["inputs"]) > len(names)


def test_the_same_session_gives_the_same_ids() -> None:
    assert run_events(history(), shipped()) == run_events(history(), shipped())
