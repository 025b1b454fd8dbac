"""Newer rows beside those a model in use was trained on: all that was compared, in one value and one document."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agents.skills.data.markdown import cell, heading, origin_note, table
from schemas.ticket import Ticket

if TYPE_CHECKING:
    from agents.skills.data.breaks import Break
    from agents.skills.data.drift import Moved
    from agents.skills.data.newer import Change
    from agents.skills.training.inuse import Package
    from agents.skills.training.standing import Standing


@dataclass(frozen=True)
class Comparison:
    """What was found. `standing` is None when the package does not say what was promised of its model."""

    moved: tuple[Moved, ...]
    target: Moved
    breaks: tuple[Break, ...]
    standing: Standing | None
    change: Change

    @property
    def names(self) -> list[str]:
        """The columns that moved, the target among them."""
        return [each.name for each in (*self.moved, self.target) if each.moved]

    @property
    def score(self) -> float:
        """The share of compared columns (the target among them) that moved, in [0, 1]."""
        return len(self.names) / (len(self.moved) + 1)

    @property
    def surprises(self) -> list[str]:
        """What a person should know of before a model learns from these rows: the world moved, or seems to have."""
        change = self.change
        found = [f"column {each.name} moved: {_how(each)}" for each in self.moved if each.moved]
        found += [f"the target {self.target.name} moved: {_how(self.target)}"] if self.target.moved else []
        found += [f"column {name} is new" for name in change.new]
        found += [f"column {name} is gone" for name in change.missing]
        found += [f"column {text} changed its type" for text in change.retyped]
        return found + ([self.standing.sentence] if self.standing and self.standing.fallen else [])

    def as_dict(self) -> dict[str, Any]:
        """For `data-drift.json`."""
        return {
            "score": self.score,
            "columns": [each.as_dict() for each in self.moved],
            "target": self.target.as_dict(),
            "breaks": [each.as_dict() for each in self.breaks],
            "surprises": self.surprises,
            "standing": None if self.standing is None else self.standing.as_dict(),
            **self.change.as_dict(),
        }


def _how(each: Moved) -> str:
    return (
        f"PSI {each.psi:.2f} (limit {each.psi_limit:.2f}), distance {each.distance:.2f} "
        f"(limit {each.distance_limit:.2f}), missing {each.missing_before:.0%} to {each.missing_now:.0%}"
    )


def drift_document(ticket: Ticket, package: Package, found: Comparison) -> str:
    """`data-drift.md`."""
    target, change = found.target, found.change
    lines = [
        heading("Drift of the newer rows", ticket),
        "",
        *origin_note(ticket),
        f"Against the {package.profile['rows']:,} training rows of {cell(package.manifest['name'])} "
        f"{cell(package.manifest['version'])} (`{package.sha256[:16]}`), of which the package keeps the profile.",
        "",
        "## Breaks",
        "",
        *([f"- **{cell(each.sentence, 300)}**" for each in found.breaks] or ["None."]),
        "",
        "A break is what broken data explains and the world does not; it stops the phase.",
        "",
        "## The model in use on these rows",
        "",
        _standing(found.standing),
        "",
        "## Distributions",
        "",
        *table(
            ("column", "kind", "PSI", "limit", "distance", "limit", "missing before", "now", "moved"),
            [
                (
                    f"{each.name} (target)" if each is target else each.name, each.kind, f"{each.psi:.3f}",
                    f"{each.psi_limit:.2f}", f"{each.distance:.3f}", f"{each.distance_limit:.2f}",
                    f"{each.missing_before:.1%}", f"{each.missing_now:.1%}", "yes" if each.moved else "no",
                )
                for each in [target, *found.moved]
            ],
        ),
        "",
        "PSI is the population stability index over the bins of the old profile; distance is the largest gap between",
        "the distribution functions at its edges (numbers) or the total variation (levels). Limits grow with few rows",
        "and many columns. If anything moved, a person decides whether the model shall learn it.",
        "",
        "## Columns",
        "",
    ]  # fmt: skip
    told = [f"- new, not read by the model: {cell(', '.join(change.new), 300)}"] if change.new else []
    told += [f"- gone, not read by the model: {cell(', '.join(change.missing), 300)}"] if change.missing else []
    told += [f"- of another type: {cell(', '.join(change.retyped), 300)}"] if change.retyped else []
    lines += told or ["Names and types are those of the rows before."]
    lines += ["", "## Contract", ""]
    if change.values:
        lines += ["The newer rows leave the old contract, which is renewed from them:", ""]
        lines += [f"- {cell(line, 200)}" for line in change.values[:50]]
    else:
        lines += ["The newer rows keep the old contract."]
    return "\n".join(lines)


def _standing(found: Standing | None) -> str:
    if found is None:
        return "Not compared: the package does not say what was promised of its model, or it cannot be measured here."
    text = found.sentence
    return f"{text[:1].upper()}{text[1:]}: {'**it has fallen**' if found.fallen else 'as promised'}."
