"""What documents about compliance are made of: statements, each with its proof or with who has to make it."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from agents.skill import SkillContext
from agents.skills.data.markdown import cell
from agents.skills.risk.record import Record, read_record
from agents.skills.shapes import FeatureMap, ScopeSpec

By = Literal["record", "draft", "person"]
MARKS: Mapping[By, str] = {
    "record": "from the record",
    "draft": "draft, to be confirmed by a person",
    "person": "to be written by a person",
}


@dataclass(frozen=True)
class Statement:
    """One sentence for one part of a framework, with the artifacts that prove it."""

    part: str
    text: str
    proof: tuple[str, ...] = ()
    by: By = "record"

    @property
    def topic(self) -> str:
        """What the statement is about: what stands before its colon."""
        return self.text.partition(":")[0]


@dataclass(frozen=True)
class Dossier:
    """What the record holds for these documents. `digests` are the SHA-256 of what was read."""

    record: Record
    scope: ScopeSpec
    features: FeatureMap
    risk: Mapping[str, Any]
    robustness: Mapping[str, Any] | None
    fairness: Mapping[str, Any] | None
    session: str
    pipeline: str
    approvals: Sequence[str]
    digests: Mapping[str, str] = field(default_factory=dict)

    def has(self, name: str) -> bool:
        """Whether the artifact was there to read."""
        return name in self.digests

    @property
    def people(self) -> list[str]:
        """The approvals that people gave so far."""
        return [line for line in self.approvals if ": automatic" not in line]


def read_dossier(context: SkillContext) -> Dossier:
    """From the staged artifacts. Raises SkillError when `metrics.json` is not what the harness writes."""

    def optional(name: str) -> Any:
        return context.read_json(name) if name in context.inputs else None

    return Dossier(
        record=read_record(context),
        scope=ScopeSpec.model_validate(context.read_json("scope.json")),
        features=FeatureMap.model_validate(context.read_json("feature-map.json")),
        risk=context.read_json("risk-profile.json"),
        robustness=optional("robustness.json"),
        fairness=optional("fairness.json"),
        session=context.session,
        pipeline=str(context.facts.get("pipeline") or context.ticket.pipeline),
        approvals=tuple(context.facts.get("approvals") or ()),
        digests={name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in sorted(context.inputs.items())},
    )


def table(statements: Sequence[Statement], dossier: Dossier, first: int) -> list[str]:
    """The statements as a Markdown table; proof that is not in the record is left out of it, never invented.

    What people have to write or confirm is numbered from `first`, as `left` lists it.
    """
    lines = ["| part | statement | proof | |", "|---|---|---|---|"]
    number = first
    for each in statements:
        proof = ", ".join(f"`{name}` {dossier.digests[name][:8]}" for name in each.proof if dossier.has(name))
        text, mark = f"{each.text[:1].upper()}{each.text[1:]}", MARKS[each.by]
        if each.by != "record":
            mark = f"{mark} (no. {number})"
            number += 1
        if each.by == "person":
            text, mark = f"**{mark[:1].upper()}{mark[1:]}**", ""
        lines.append(f"| {each.part} | {text} | {proof} | {mark} |")
    return lines


def left(parts: Sequence[tuple[str, Sequence[Statement]]]) -> list[str]:
    """What people have to write or confirm, of all frameworks in one Markdown table, numbered from 1."""
    lines = ["| no. | framework | part | what a person does | what it is about | done |", "|---|---|---|---|---|---|"]
    number = 0
    for framework, statements in parts:
        for each in statements:
            if each.by == "record":
                continue
            number += 1
            does, about = ("write", each.text) if each.by == "person" else ("confirm the draft", each.topic)
            lines.append(f"| {number} | {framework} | {each.part} | {does} | {about} | |")
    return lines


def as_json(statements: Sequence[Statement], dossier: Dossier) -> list[dict[str, Any]]:
    """The statements for programs."""
    return [
        {
            "part": each.part,
            "text": each.text,
            "by": each.by,
            "proof": {name: dossier.digests[name] for name in each.proof if dossier.has(name)},
        }
        for each in statements
    ]


def named(text: object, longest: int = 300) -> str:
    """Text of the ticket or the data, harmless in a table."""
    return cell(text, longest)
