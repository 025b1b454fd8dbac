"""The child's side of a skill: runs in a forked process, in a directory of its own, without secrets.

Request and answer are plain JSON: nothing from a child is ever unpickled.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from agents.discovery import AnySkill, skill
from agents.plugin_side import load
from agents.skill import InputError, LimitError, SkillContext
from schemas.ticket import Ticket
from schemas.values import FailureClass, Role
from workspace.zygote import progress

VALIDATOR = "agents.skills.devsecops.validator"
PRELOAD = (
    "pandas",
    "agents.warm",
    "scipy.stats",
    "sklearn.datasets",
    "pyarrow.parquet",
    "pyarrow.dataset",
    "pandera.pandas",
    "matplotlib.figure",
    "matplotlib.backends.backend_svg",
    "sklearn.pipeline",
    "sklearn.compose",
    "sklearn.ensemble",
    "sklearn.linear_model",
    "sklearn.model_selection",
    "skops.io",
    "optuna",
    VALIDATOR,
)
"""Imported once in the fork server, so that a skill starts warm: together they take seconds. What the first phases of a
ticket need comes first: a skill that starts before its turn imports it a second time."""
_UNUSED = {
    Role.LEAD: {"pyarrow", "scipy", "sklearn", "skops", "optuna", "pandera", "matplotlib", VALIDATOR},
    Role.RISK: {"pyarrow", "scipy", "sklearn", "skops", "optuna", "pandera", "matplotlib", VALIDATOR},
    Role.DATA: {"skops", "optuna", VALIDATOR},
    Role.FEATURE: {"skops", "optuna", "pandera", "matplotlib", VALIDATOR},
    Role.TRAINING: {"pandera", "matplotlib", VALIDATOR},
    Role.EVALUATION: {"pandera", VALIDATOR},
    Role.DEVSECOPS: {"optuna", "pandera", "matplotlib"},
}
"""Libraries, or modules of PRELOAD, that a role's usual skills do not import."""


def preload(roles: Iterable[Role]) -> tuple[str, ...]:
    """What a fork server that works for `roles` imports once. A skill that wants more imports it by itself."""
    idle = set.intersection(*(set(_UNUSED.get(role, ())) for role in roles))
    return tuple(name for name in PRELOAD if not idle & {name, name.partition(".")[0]})


def run(request: dict[str, Any]) -> dict[str, Any]:
    """Run one skill.

    `request` has `skill`, `plugin` (where its code is, if it is not shipped), `parameters`, `ticket`, `inputs`
    (artifact → path), `out`, `roots`, and the scalar fields of `SkillContext`. The answer is `{"output": {...}}`, or
    `{"failure": class, "reason": …, "detail": …}`.
    """
    cls = _class(request)
    context = SkillContext(
        ticket=Ticket.model_validate(request["ticket"]),
        acceptance=tuple(request["acceptance"]),
        inputs={name: Path(path) for name, path in request["inputs"].items()},
        out=Path(request["out"]),
        roots=tuple(Path(root) for root in request["roots"]),
        measured=request["measured"],
        seed=request["seed"],
        now=request["now"],
        session=request["session"],
        seconds=request["seconds"],
        max_data_bytes=request["max_data_bytes"],
        facts=request["facts"],
        kept=Path(request["kept"]) if request.get("kept") else None,
        progress=progress,
    )
    try:
        parameters = cls.parameters.model_validate(request["parameters"])
    except ValidationError as problem:
        return {"failure": FailureClass.INPUT.value, "reason": _wrong(cls, problem), "detail": ""}
    try:
        output = cls().run(parameters, context)
    except InputError as problem:
        return {"failure": FailureClass.INPUT.value, "reason": str(problem), "detail": ""}
    except LimitError as problem:
        return {"failure": FailureClass.LIMIT.value, "reason": str(problem), "detail": ""}
    except MemoryError:
        return {"failure": FailureClass.LIMIT.value, "reason": f"{cls.name} ran out of memory", "detail": ""}
    except Exception as problem:  # a fault of ours: reported with its trace, never a crash of the agent
        reason = f"{cls.name} failed: {type(problem).__name__}: {str(problem)[:500]}"
        return {"failure": FailureClass.AGENT.value, "reason": reason, "detail": traceback.format_exc()[-4000:]}
    missing = [name for name in cls.produces if not (context.out / name).is_file()]
    if missing:
        reason = f"{cls.name} did not write {', '.join(missing)}"
        return {"failure": FailureClass.AGENT.value, "reason": reason, "detail": ""}
    return {"output": output.model_dump(mode="json")}


def _class(request: dict[str, Any]) -> AnySkill:
    """The skill's class; a plugin's code is imported here, and nowhere before."""
    return load(request["plugin"]) if request.get("plugin") else skill(request["skill"])


def _wrong(cls: AnySkill, problem: ValidationError) -> str:
    """The parameters that cannot be used, with the ones there are."""
    wrong = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in problem.errors()[:5])
    known = ", ".join(sorted(cls.parameters.model_fields)) or "none"
    return f"{cls.name}: parameters cannot be used: {wrong}; parameters are {known}"
