"""Risks of a data set by itself, scored from how it was described and what its quality is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from agents.skills.data.personal import DIRECT, SPECIAL
from agents.skills.risk.register import Risk
from agents.skills.shapes import SourceSpec

LICENCES = ("public domain", "cc by", "cc0", "odbl", "mit", "apache")
"""Words in a source's description that name terms of use we know."""

STALE_DAYS = (400.0, 3650.0)
"""Age of the newest row from which it is doubtful, and very doubtful, that rows still say something of today."""


@dataclass(frozen=True)
class DataRecord:
    """What the rules read. `profile` and `quality` are `data-profile.json` and `data-quality.json`; `now` ISO 8601."""

    source: SourceSpec
    profile: Mapping[str, Any]
    quality: Mapping[str, Any]
    now: str

    def tagged(self, *tags: str) -> list[str]:
        """Names of the columns with one of the tags (any tag without one named)."""
        return [c["name"] for c in self.profile["columns"] if (set(c["tags"]) & set(tags) if tags else c["tags"])]

    @property
    def age_days(self) -> float | None:
        """Days from the newest row to now, None without a time column."""
        time = self.profile["time"]
        if time is None:
            return None
        newest = datetime.fromisoformat(time["newest"])
        now = datetime.fromisoformat(self.now)
        return (now - (newest if newest.tzinfo else newest.replace(tzinfo=now.tzinfo))).total_seconds() / 86_400


def data_risks(record: DataRecord) -> list[Risk]:
    """Every risk of this data set."""
    risks = [_personal(record), _forbidden(record), _licence(record), _stale(record), _quality(record), _copies(record)]
    return [*risks, _synthetic()] if record.source.synthetic else risks


def _personal(record: DataRecord) -> Risk:
    direct, special, all_of = record.tagged(DIRECT), record.tagged(SPECIAL), record.tagged()
    shown = "; ".join(
        f"{what}: {', '.join(names[:5])}" for what, names in (("direct", direct), ("special", special)) if names
    )
    return Risk(
        id="personal-data",
        title="Personal data",
        kind="data",
        cause="columns name people, help to find them, or say something of them that the law protects",
        effect="people are harmed; the use is unlawful without a basis, a purpose and a time limit",
        signal="columns tagged `personal:…` in the profile",
        mitigation="values of direct columns stay out of every document; rows are sealed; a person names the basis",
        owner="data",
        likelihood=4 if direct or special else 2 if all_of else 1,
        impact=4 if direct or special else 3,
        evidence=f"data-profile.json: {len(all_of)} of {len(record.profile['columns'])} columns tagged"
        + (f" ({shown})" if shown else ""),
    )


def _forbidden(record: DataRecord) -> Risk:
    names = [column["name"] for column in record.profile["columns"] if column["forbidden"]]
    return Risk(
        id="account-numbers",
        title="Numbers that must not be kept in the clear",
        kind="data",
        cause="a column holds payment card, bank account or social security numbers",
        effect="whoever reads the rows can take money or an identity",
        signal="values that pass the checksum of such numbers",
        mitigation="replace them by tokens at the source",
        owner="data",
        likelihood=5 if names else 1,
        impact=5,
        evidence=f"data-profile.json: {', '.join(names[:5]) if names else 'no such values'}",
        veto=f"{', '.join(names[:5])} holds card, account or social security numbers in the clear" if names else "",
    )


def _licence(record: DataRecord) -> Risk:
    stated = next((word for word in LICENCES if word in record.source.description.lower()), "")
    return Risk(
        id="licence-unknown",
        title="Terms of use unknown",
        kind="data",
        cause="nothing says by what right the rows may be used",
        effect="work on them has to be thrown away",
        signal="the source states no licence",
        mitigation="the catalogue names an owner to ask, and what they may be used for",
        owner="lead",
        likelihood=1 if stated or record.source.synthetic else 2,
        impact=2,
        evidence=f"data-source.json: {'licence stated: ' + stated if stated else 'no licence stated'}",
    )


def _stale(record: DataRecord) -> Risk:
    age = record.age_days
    old = 0 if age is None else sum(age > limit for limit in STALE_DAYS)
    return Risk(
        id="stale-rows",
        title="Old rows",
        kind="data",
        cause="the source is not fed any more, or nobody knows how old rows are",
        effect="what is learned from them held once",
        signal="the newest row is older than the freshness target",
        mitigation="the catalogue states a freshness target from measured figures",
        owner="data",
        likelihood=2 if age is None else (1, 2, 3)[old],
        impact=2,
        evidence="no column of times: the age of rows is unknown" if age is None else f"newest row {age:,.0f} days old",
    )


def _quality(record: DataRecord) -> Risk:
    score = float(record.quality["score"])
    return Risk(
        id="poor-quality",
        title="Poor quality",
        kind="data",
        cause="cells are missing, columns are constant or copies, values lie far out",
        effect="what is computed from the rows is wrong",
        signal="a low quality score",
        mitigation="the contract bounds missing cells and ranges; the score is watched",
        owner="data",
        likelihood=1 if score >= 90 else 2 if score >= 75 else 4,
        impact=3,
        evidence=f"data-quality.json: score {score:g} of 100, {len(record.quality['findings'])} findings",
    )


def _copies(record: DataRecord) -> Risk:
    share = record.quality["duplicate_rows"] / max(record.profile["rows"], 1)
    return Risk(
        id="copied-rows",
        title="Rows that occur more than once",
        kind="data",
        cause="a join or an export wrote rows twice",
        effect="counts are too high; a model would be tested on what it has seen",
        signal="rows whose values all equal another row's",
        mitigation="splits keep copies together; counts name them",
        owner="data",
        likelihood=1 if share <= 0.01 else 2 if share <= 0.2 else 3,
        impact=2,
        evidence=f"data-quality.json: {record.quality['duplicate_rows']:,} rows ({share:.1%})",
    )


def _synthetic() -> Risk:
    return Risk(
        id="synthetic-data",
        title="Synthetic data",
        kind="data",
        cause="a program generated the rows",
        effect="nothing learned from them holds for real cases",
        signal="the source is marked synthetic",
        mitigation="every document says so",
        owner="data",
        likelihood=1,
        impact=5,
        evidence="data-source.json: synthetic",
    )
