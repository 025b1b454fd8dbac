"""What a model is asked to do: build a change, design one, review one, or run a phase's skills."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import anyio.to_thread
from pydantic import Field

from agents.discovery import AnySkill, skill
from agents.discovery import skills as all_skills
from agents.planning import prompts
from agents.planning.editing import Desk
from agents.planning.files import ToolError, ToolRefused
from agents.planning.session import Session, failed
from agents.planning.tools import Submitted, Tool
from agents.planning.untrusted import clean, shortened
from agents.port import AttemptError, SkillRun
from agents.skill import InputError
from agents.skills.change.secrets import PATTERNS
from agents.skills.change.shapes import ChangeBrief, TestReport
from agents.skills.change.workplace import sandbox_from
from schemas.values import FailureClass, Value
from workspace.git import GitError, ticket_folder
from workspace.sandbox.port import Network

LONGEST_PATCH = 60_000
"""Characters of a patch that a review is shown."""


class Summary(Value):
    summary: Annotated[str, Field(min_length=1, max_length=2_000, description="What was changed and why.")]


class Design(Value):
    design: Annotated[str, Field(min_length=50, max_length=20_000, description="In Markdown.")]


class Remark(Value):
    level: Literal["serious", "minor"]
    where: Annotated[str, Field(max_length=200, description="file:line")] = ""
    what: Annotated[str, Field(min_length=1, max_length=1_000)]


class Remarks(Value):
    remarks: Annotated[tuple[Remark, ...], Field(max_length=30)] = ()


async def build(session: Session) -> list[SkillRun]:
    """The change: written in a checkout of its own, taken as a patch, tested by the skill. Raises AttemptError."""
    desk = await _desk(session)
    material = session.material("change-brief.json", "change-design.md", "test-plan.md", "design-note.md")
    brief = ChangeBrief.model_validate_json(session.read("change-brief.json"))
    done: list[SkillRun] = []

    async def submit(given: Summary) -> str | Submitted:
        patch = (await desk.diff()).decode("utf-8", "surrogateescape")
        if not patch:
            raise ToolError("nothing is changed: there is nothing to submit")
        try:
            run = await session.run_skill("devsecops.change", {"patch": patch})
        except AttemptError as problem:
            if problem.failure is not FailureClass.INPUT:
                raise
            raise ToolRefused(problem.reason) from problem
        if why := _failing(session, run):
            raise ToolError(f"the change was not taken: {why}")
        done.append(run)
        return Submitted(" ".join(clean(given.summary).split())[:300])

    tools = (
        *desk.reading(), *desk.writing(),
        Tool("submit", "Submit the change: it is tested on a clean checkout.", Summary, submit),
    )  # fmt: skip
    order = prompts.BUILD_TASK.format(command=" ".join(brief.test_command))
    summary = await session.talk("build", prompts.BUILD, order, material, tools)
    visible = _visible(session, desk)
    return [*done[-1:], session.result(summary, {}, visible)]


async def design(session: Session) -> list[SkillRun]:
    """The design by rule, and a note by the model, who may read the repository. Raises AttemptError."""
    run = await session.run_skill("lead.change_design", {})
    desk = await _desk(session)
    said: list[str] = []

    async def submit(given: Design) -> str | Submitted:
        text = clean(given.design)
        if found := next((kind for kind, pattern in PATTERNS.items() if pattern.search(text)), ""):
            raise ToolRefused(f"the design holds what looks like a credential ({found})")
        said.append(text)
        return Submitted("design note")

    tools = (*desk.reading(), Tool("submit", "Hand in the design.", Design, submit))
    await session.talk("design", prompts.DESIGN, prompts.DESIGN_TASK, session.material("change-brief.json"), tools)
    note = "\n".join(["# Design note", "", "Written by a model; it decides nothing.", "", said[-1], ""])
    return [run, session.result("design note by a model", {"design-note.md": (note.encode(), "text/markdown")})]


async def review(session: Session) -> list[SkillRun]:
    """A second look at the patch by a model: an artifact and warnings, never the decision. What goes wrong with it is a
    warning, since the harness's own review stands without it. Nobody's instructions lead it."""
    patch = session.read("change.patch")
    if not patch:
        return []
    material = {**session.material("change-brief.json"), "change.patch": _most_of(patch)}
    said: list[Remarks] = []

    async def report(given: Remarks) -> str | Submitted:
        said.append(given)
        return Submitted(f"{len(given.remarks)} remarks of a model on the patch")

    tools = (Tool("report", "Report what you found.", Remarks, report),)
    try:
        summary = await session.talk("review", prompts.REVIEW, prompts.REVIEW_TASK, material, tools, 3, guided=False)
    except AttemptError as problem:
        why = f"no review by a model: {problem.reason}"
        return [session.result("not reviewed by a model", {}, (why,), failed=problem)]
    remarks = said[-1].remarks
    document = {
        "by": sorted(session.steps.models),
        "decides": "nothing",
        "whole_patch_shown": len(patch) <= LONGEST_PATCH,
        "remarks": [{**each.model_dump(), "what": clean(each.what), "where": clean(each.where)} for each in remarks],
    }
    data = (json.dumps(document, indent=2) + "\n").encode()
    warnings = tuple(f"a model remarks ({each.level}): {_line(each.where)} {_line(each.what)}" for each in remarks[:10])
    return [session.result(summary, {"model-review.json": (data, "application/json")}, warnings)]


async def skills(session: Session) -> list[SkillRun]:
    """Any other phase: the mode's skills of its agent are the tools. Raises AttemptError."""
    phase = session.attempt.phase
    mine = [cls for cls in all_skills().values() if cls.role is phase.agent and phase.mode in cls.modes]
    runs: dict[str, SkillRun] = {}

    async def submit(given: Summary) -> str | Submitted:
        made = {ref.name for run in runs.values() for ref in run.artifacts}
        if missing := sorted({each for name in phase.skills for each in skill(name).produces} - made):
            raise ToolError(f"not there yet: {', '.join(missing)}")
        return Submitted(" ".join(clean(given.summary).split())[:300])

    tools = tuple(_as_tool(session, cls, runs) for cls in sorted(mine, key=lambda cls: cls.name))
    tools += (Tool("submit", "The phase is done.", Summary, submit),)
    order = prompts.SKILLS_TASK.format(skills=", ".join(name.replace(".", "_") for name in phase.skills))
    summary = await session.talk("skills", prompts.SKILLS, order, session.material(*_readable(session)), tools)
    return [*runs.values(), session.result(summary, {})]


def _as_tool(session: Session, cls: AnySkill, runs: dict[str, SkillRun]) -> Tool:
    async def run(parameters: Value) -> str | Submitted:
        try:
            done = await session.run_skill(cls.name, parameters.model_dump(mode="json"))
        except AttemptError as problem:
            if problem.failure is FailureClass.POLICY:
                raise ToolRefused(problem.reason) from problem
            if problem.failure in (FailureClass.AGENT, FailureClass.INPUT):
                raise ToolError(problem.reason) from problem
            raise
        runs.pop(cls.name, None)  # what ran last counts, also in their order
        runs[cls.name] = done
        figures = "".join(f"\n{m.scope}.{m.name} = {m.value:.6g}" for m in done.measurements)
        return f"{done.summary}\nproduced: {', '.join(ref.name for ref in done.artifacts)}{figures}"

    help_ = " ".join((cls.__doc__ or cls.name).split("\n\n")[0].split())
    if cls.needs:
        help_ += f" Needs: {', '.join(cls.needs)}."
    return Tool(cls.name.replace(".", "_"), help_, cls.parameters, run, again=True)


def _readable(session: Session) -> Sequence[str]:
    """Documents of earlier phases that say what the phase is about; tables and models are for skills."""
    refs = [ref for ref in session.attempt.phase.artifacts if ref.name.endswith(".md") and not ref.sealed]
    return [ref.name for ref in refs if ref.size <= 40_000][-6:]


async def _desk(session: Session) -> Desk:
    """The checkout to work in, with the sandbox for commands. Raises AttemptError."""
    ticket = session.attempt.phase.ticket
    if ticket.checkout is None:
        reason = "the session was started without a repository to change"
        raise AttemptError(FailureClass.INPUT, f"{reason}; use a pipeline with a phase that has `apply`")
    place = ticket.checkout
    try:
        sandbox, session.doubts = sandbox_from(session.means.facts)
        made = await anyio.to_thread.run_sync(session.workplace.checkout, Path(place.repository), place.commit)
    except InputError as problem:
        raise AttemptError(FailureClass.INPUT, str(problem)) from problem
    except (GitError, OSError) as problem:
        raise failed(problem, "the checkout for the planner") from problem
    return Desk(
        made,
        sandbox,
        ticket_folder(ticket.id),
        session.left,
        session.means.limits,
        session.attempt.used,
        Network(session.attempt.phase.sandbox_hosts),
    )


def _failing(session: Session, run: SkillRun) -> str:
    """Which tests fail after the change, as the skill measured; empty if none does."""
    figures = {f"{m.scope}.{m.name}": m.value for m in run.measurements}
    if not figures.get("tests.failed"):
        return ""
    (ref,) = [ref for ref in run.artifacts if ref.name == "test-report.json"]
    report = TestReport.model_validate_json(session.means.blobs.read(ref.sha256))
    if report.after.error:
        return report.after.error
    names = sorted(report.after.names("failed"))
    return f"{len(names)} tests fail: {', '.join(names[:20])}; run them to see why"


def _visible(session: Session, desk: Desk) -> tuple[str, ...]:
    """A hidden test that is committed in the repository was not hidden."""
    ticket, roots = session.attempt.phase.ticket, session.attempt.phase.roots
    found = []
    files = set(desk.checkout.files(base=True))
    for name in ticket.acceptance_tests:
        for root in roots[:1]:
            place = (Path(root) / name).resolve()
            repository = Path(ticket.checkout.repository).resolve() if ticket.checkout else place
            if place.is_relative_to(repository) and place.relative_to(repository).as_posix() in files:
                found.append(f"the acceptance test {name} is committed in the repository: the model could read it")
    return tuple(found)


def _most_of(patch: str) -> str:
    return shortened(patch, LONGEST_PATCH * 2 // 3, LONGEST_PATCH // 3)


def _line(text: str) -> str:
    return " ".join(clean(text).split())[:300]
