"""Which columns hold personal data, by documented rules over names and values.

Rules see patterns, not meaning: what they miss a person must add, and what they find wrongly a person may overrule.
The groups are those of the General Data Protection Regulation: what names a person (`personal:direct`), what helps to
find one when joined with something else (`personal:indirect`), and the special categories of its article 9
(`personal:special`). No cell's value leaves this module.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from agents.skills.data.columns import kind_of
from agents.skills.shapes import ROW_COLUMN, TARGET_COLUMN

if TYPE_CHECKING:
    import pandas as pd

DIRECT, INDIRECT, SPECIAL = "personal:direct", "personal:indirect", "personal:special"

MIN_SHARE = 0.05
"""Share of a text column's present values that must match a pattern: one address in a comment is a leak, too, but a
twentieth of the cells is a column of them. Fewer matches are still reported as `some cells`."""

SAMPLE = 20_000
"""Values looked at in each column, spread evenly over the rows."""


@dataclass(frozen=True)
class Finding:
    """One reason to tag a column. `share` is that of matching values (1.0 for a rule about the name)."""

    column: str
    tag: str
    rule: str
    what: str
    share: float

    @property
    def direct(self) -> bool:
        """Whether the values alone name a person or an account of theirs."""
        return self.tag == DIRECT

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return {"column": self.column, "tag": self.tag, "rule": self.rule, "what": self.what, "share": self.share}


@dataclass(frozen=True)
class ValueRule:
    """A pattern that a whole value must match, and a check of what it matched (a checksum)."""

    name: str
    what: str
    tag: str
    pattern: re.Pattern[str]
    check: Callable[[str], bool] = lambda text: True
    forbidden: bool = False
    """Whether such values may not be kept in the clear at all: an account can be emptied with them."""


@dataclass(frozen=True)
class NameRule:
    """Words that a column's name, split at `_`, `-`, blanks and capitals, must contain, one of the alternatives."""

    name: str
    what: str
    tag: str
    words: tuple[tuple[str, ...], ...]


def _luhn(text: str) -> bool:
    """The checksum of payment cards (ISO/IEC 7812-1)."""
    digits = [int(each) for each in text if each.isdigit()]
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[-2::-2]]
    return 13 <= len(digits) <= 19 and len(set(digits)) > 1 and (sum(digits[-1::-2]) + sum(doubled)) % 10 == 0


def _iban(text: str) -> bool:
    """The checksum of bank accounts (ISO 13616): modulo 97."""
    plain = re.sub(r"\s", "", text).upper()
    return int("".join(str(int(each, 36)) for each in plain[4:] + plain[:4])) % 97 == 1


def _octets(text: str) -> bool:
    return all(int(part) <= 255 for part in text.split("."))


VALUE_RULES = (
    ValueRule("email", "e-mail addresses", DIRECT, re.compile(r"[^@\s,;]{1,64}@[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+")),
    ValueRule("phone", "telephone numbers", DIRECT, re.compile(r"(\+|00)\d{1,3}[\s./-]?(\(?\d{1,5}\)?[\s./-]?){2,5}")),
    ValueRule("phone-us", "telephone numbers", DIRECT, re.compile(r"\(?[2-9]\d{2}\)?[\s.-]\d{3}[\s.-]\d{4}")),
    ValueRule(
        "card", "payment card numbers", DIRECT, re.compile(r"[3-6]\d{3}([ -]?\d){9,15}"), _luhn, forbidden=True
    ),
    ValueRule(
        "iban", "bank accounts (IBAN)", DIRECT, re.compile(r"[A-Za-z]{2}\d{2}(\s?[A-Za-z0-9]){11,30}"), _iban,
        forbidden=True,
    ),
    ValueRule(
        "ssn", "social security numbers (US)", DIRECT,
        re.compile(r"(?!000|666|9\d\d)\d{3}-(?!00)\d{2}-(?!0000)\d{4}"), forbidden=True,
    ),
    ValueRule("ipv4", "internet addresses", INDIRECT, re.compile(r"\d{1,3}(\.\d{1,3}){3}"), _octets),
    ValueRule("ipv6", "internet addresses", INDIRECT, re.compile(r"([0-9A-Fa-f]{1,4}:){7}[0-9A-Fa-f]{1,4}")),
)  # fmt: skip

NAME_RULES = (
    NameRule("name", "names of people", DIRECT, (
        ("first", "name"), ("last", "name"), ("full", "name"), ("middle", "name"), ("firstname",), ("lastname",),
        ("surname",), ("forename",), ("fullname",), ("patient", "name"), ("customer", "name"), ("employee", "name"))),
    NameRule("contact", "ways to reach a person", DIRECT, (
        ("email",), ("e", "mail"), ("mail", "address"), ("phone",), ("telephone",), ("mobile", "number"), ("fax",))),
    NameRule("official-number", "numbers an authority or a bank gave a person", DIRECT, (
        ("ssn",), ("passport",), ("iban",), ("social", "security"), ("national", "id"), ("tax", "id"),
        ("driving", "licence"), ("drivers", "license"), ("license", "plate"))),
    NameRule("person-number", "numbers that stand for one person", INDIRECT, (
        ("patient", "id"), ("customer", "id"), ("client", "id"), ("user", "id"), ("member", "id"), ("person", "id"),
        ("employee", "id"), ("student", "id"), ("individual",), ("patient",), ("username",), ("login",))),
    NameRule("address", "where a person lives", INDIRECT, (
        ("street",), ("address",), ("postcode",), ("postal", "code"), ("zip",), ("zipcode",), ("zip", "code"),
        ("latitude",), ("longitude",))),
    NameRule("birth", "age or date of birth", INDIRECT, (
        ("age",), ("age", "years"), ("birth",), ("birthday",), ("birthdate",), ("dob",), ("date", "of", "birth"))),
    NameRule("sex", "sex or gender", INDIRECT, (("sex",), ("gender",), ("female",), ("male",))),
    NameRule("income", "income or education", INDIRECT, (
        ("income",), ("salary",), ("wage",), ("linc",), ("education",), ("educ",))),
    NameRule("origin", "racial or ethnic origin", SPECIAL, (("race",), ("ethnicity",), ("ethnic",), ("nationality",))),
    NameRule("belief", "political, religious or philosophical belief", SPECIAL, (
        ("religion",), ("religious",), ("party",), ("political",), ("vote",), ("union", "member"))),
    NameRule("health", "health", SPECIAL, (
        ("diagnosis",), ("disease",), ("hlthg",), ("hlthf",), ("hlthp",), ("physlm",), ("disability",), ("chronic",),
        ("medication",), ("treatment",), ("blood", "pressure"), ("bmi",), ("hiv",), ("pregnant",), ("smoker",),
        ("malignant",), ("health",))),
    NameRule("intimate", "sex life or genetic and biometric data", SPECIAL, (
        ("sexual", "orientation"), ("affairs",), ("genome",), ("genotype",), ("fingerprint",), ("biometric",))),
)  # fmt: skip

FORBIDDEN = frozenset(rule.name for rule in VALUE_RULES if rule.forbidden)


def words_of(name: str) -> list[str]:
    """A column's name as lower-case words: `patientId` and `Patient ID` are `patient id`."""
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name)
    return [word for word in re.split(r"[^a-z0-9]+", spaced.lower()) if word]


def scan(dataset: pd.DataFrame) -> dict[str, list[Finding]]:
    """The findings of every column that has any, by column in the order of the table."""
    found = {}
    for name in map(str, dataset.columns):
        if name in (ROW_COLUMN, TARGET_COLUMN):
            continue
        if findings := [*_by_name(name), *_by_values(name, dataset[name])]:
            found[name] = findings
    return found


def _by_name(name: str) -> list[Finding]:
    words = words_of(name)
    joined = f" {' '.join(words)} "
    return [
        Finding(name, rule.tag, f"name:{rule.name}", rule.what, 1.0)
        for rule in NAME_RULES
        if any(f" {' '.join(wanted)} " in joined for wanted in rule.words)
    ]


def _by_values(name: str, series: pd.Series[Any]) -> list[Finding]:
    """What the values look like. Numbers are looked at only for cards: a measurement has no other pattern."""
    kind = kind_of(series)
    if kind not in ("categorical", "numeric"):
        return []
    present = series.dropna()
    present = present.iloc[:: max(1, len(present) // SAMPLE)]
    if kind == "numeric":
        whole = present[(present % 1 == 0) & (present >= 1e12)]
        if len(whole) < 0.5 * len(present) or whole.empty:
            return []
        texts, rules = [str(int(value)) for value in whole], [rule for rule in VALUE_RULES if rule.name == "card"]
    else:
        texts, rules = [str(value).strip() for value in present], list(VALUE_RULES)
    findings = []
    for rule in rules:
        hits = sum(bool(rule.pattern.fullmatch(text)) and rule.check(text) for text in texts)
        share = hits / len(texts)
        # One card number in ten of random digits passes the checksum: of numbers most must.
        least = 0.5 if kind == "numeric" else MIN_SHARE if rule.name != "email" else 1 / len(texts)
        if hits and share >= least:
            findings.append(Finding(name, rule.tag, f"value:{rule.name}", rule.what, round(share, 4)))
    return findings
