"""Skill `devsecops.advisories`: known flaws of what a package or project is made of, from a database of known age."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from agents.skill import InputError, Parameters, Skill, SkillContext, SkillOutput
from agents.skills.data.markdown import cell, origin_note, table
from agents.skills.devsecops.osv import Database, Hit, read_database
from schemas.values import Measurement, Mode, Role, TickedItem

MAX_DAYS = 7.0


@dataclass(frozen=True)
class Listed:
    """The distributions that a bill of materials names: those with a version, and the names of those without."""

    known: tuple[tuple[str, str], ...]
    unknown: tuple[str, ...]


class DevsecopsAdvisories(Skill[Parameters, SkillOutput]):
    """Look up every component of the bill of materials in an advisory database (OSV) that is not too old."""

    name = "devsecops.advisories"
    role = Role.DEVSECOPS
    modes = frozenset({Mode.DELIVER, Mode.OPERATE})
    needs = ("sbom.cdx.json",)
    produces = ("advisories.json", "advisories.md")
    seconds = 300.0

    def run(self, parameters: Parameters, context: SkillContext) -> SkillOutput:
        """Write the report. `advisories.current` is 1 only with a database younger than the limit; `advisories.known`
        and `advisories.unchecked` are measured only then, so that no criterion over them holds by chance.

        Raises InputError when the database or the bill of materials cannot be read.
        """
        listed = _listed(context.read_json("sbom.cdx.json"))
        now = datetime.fromisoformat(context.now)
        limit = float(context.facts.get("advisories_max_days") or MAX_DAYS)
        named = str(context.facts.get("advisories") or "")
        database = read_database(Path(named), now) if named else None
        why = _why_not(database, now, limit)
        hits: list[Hit] = []
        unchecked = list(listed.unknown)
        for name, version in listed.known if database else ():
            try:
                hits += database.about(name, version) if database else []
            except ValueError:
                unchecked.append(f"{name} {version}")
        age = database.age_days(now) if database else None
        report = {
            "database": Path(named).name if named else None, "records": database.records if database else 0,
            "newest": database.newest.isoformat() if database else None, "age_days": age, "max_days": limit,
            "current": not why, "why_not": why, "components": len(listed.known), "unchecked": sorted(unchecked),
            "known": [asdict(hit) for hit in hits],
        }  # fmt: skip
        context.write_json("advisories.json", report)
        context.write_text("advisories.md", _document(context, report, hits))
        return _output(report, hits, unchecked)


def _why_not(database: Database | None, now: datetime, limit: float) -> str:
    if database is None:
        return "no advisory database is named in the settings (`advisories`): nothing was looked up"
    if (age := database.age_days(now)) > limit:
        return f"the advisory database is {age:.1f} days old, more than {limit:g}: newer flaws are not in it"
    return ""


def _listed(sbom: Any) -> Listed:
    known, unknown = set(), set()
    try:
        for part in sbom["components"]:
            purl = str(part.get("purl") or "")
            if part.get("type") == "library" and not purl.startswith("pkg:pypi/"):
                unknown.add(str(part["name"]))
            elif part.get("type") == "library":
                (known.add((str(part["name"]), str(part["version"]))) if part.get("version")
                 else unknown.add(str(part["name"])))  # fmt: skip
    except (KeyError, TypeError, AttributeError) as problem:
        raise InputError(f"sbom.cdx.json is no CycloneDX document: {problem}", "make it anew") from problem
    return Listed(tuple(sorted(known)), tuple(sorted(unknown)))


def _output(report: dict[str, Any], hits: Sequence[Hit], unchecked: Sequence[str]) -> SkillOutput:
    current = not report["why_not"]
    measured = [Measurement(scope="advisories", name="current", value=1.0 if current else 0.0)]
    if report["age_days"] is not None:
        measured.append(Measurement(scope="advisories", name="age_days", value=float(report["age_days"])))
    ticked = []
    if current:
        measured.append(Measurement(scope="advisories", name="known", value=float(len(hits))))
        measured.append(Measurement(scope="advisories", name="unchecked", value=float(len(unchecked))))
        evidence = f"advisories.json: {report['components']} components in {report['records']:,} records"
        ticked.append(TickedItem(item="advisories-looked-up", evidence=evidence))
    warnings = [report["why_not"]] if report["why_not"] else []
    warnings += [f"{hit.name} {hit.version}: {hit.advisory} ({hit.severity})" for hit in hits[:20]]
    if unchecked:
        warnings.append(f"not checked, their version is not known: {', '.join(sorted(unchecked)[:10])}")
    found = f"{len(hits)} known flaws in {report['components']} components"
    return SkillOutput(
        summary=found if current else f"does not pass: {report['why_not']}",
        ticked=tuple(ticked), measurements=tuple(measured), warnings=tuple(warnings),
    )  # fmt: skip


def _document(context: SkillContext, report: dict[str, Any], hits: Sequence[Hit]) -> str:
    if report["why_not"]:
        verdict = f"**Does not pass: {report['why_not']}.**"
    else:
        verdict = f"{len(hits)} known flaws in {report['components']} components."
    rows = [
        (h.name, h.version, h.advisory, ", ".join(h.aliases), h.severity, ", ".join(h.fixed) or "not yet", h.summary)
        for h in hits
    ]
    header = ("component", "version", "advisory", "also", "severity", "repaired in", "what it is")
    age = "–" if report["age_days"] is None else f"{report['age_days']:.1f} days (at most {report['max_days']:g})"
    lines = [
        f"# Advisories: {cell(context.ticket.title, 300)}", "", *origin_note(context.ticket), verdict, "",
        *table(("database", "records", "newest record", "age"),
               [(report["database"] or "none", report["records"], report["newest"] or "–", age)]),
        "", *(table(header, rows, 200) if rows else ["No advisory is about a component listed here."]), "",
        "## Not checked", "",
        *([f"- {cell(name, 200)}" for name in report["unchecked"]] or ["Nothing: every component has a version."]), "",
        "Only what the bill of materials lists was looked up, by name and version; flaws nobody has published, and how",
        "a component is used, are not seen here.",
    ]  # fmt: skip
    return "\n".join(lines)
