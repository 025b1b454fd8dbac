"""Rules for OpenTofu and Terraform templates in JSON: what must be in them, and what must not.

Only the text is looked at; nothing is run and nothing is asked of a cloud.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from agents.skills.change.secrets import kind_of

PERSON = "To be filled by a person: "
"""How the description of a variable without default begins."""
ANYWHERE = frozenset({"0.0.0.0/0", "::/0"})
_BROAD = re.compile(r"^roles/(owner|editor|viewer)$|[aA]dmin$")
_EVERYBODY = frozenset({"allUsers", "allAuthenticatedUsers"})
_PUBLIC = frozenset({"access_config", "ipv6_access_config", "nat_ip", "assign_public_ip"})
_ADDRESSES = frozenset({"google_compute_address", "google_compute_global_address", "google_compute_router_nat"})
_EXACT = re.compile(r"^\d+\.\d+\.\d+$")
_INTERPOLATION = re.compile(r"\$\{((?:[^{}\"]|\"(?:[^\"\\]|\\.)*\"|\{[^{}]*\})*)\}")
_TEXT = re.compile(r'"(?:[^"\\]|\\.)*"')
_PATH = re.compile(r"(?<![\w.])([a-z]\w*)((?:\.\w+|\[[^\]]*\])+)")
_WORDS = frozenset({"each", "count", "path", "self", "terraform"})
_ENCRYPTED: Mapping[str, tuple[str, ...]] = {
    "google_container_cluster": ("database_encryption", "key_name"),
    "google_container_node_pool": ("node_config", "boot_disk_kms_key"),
    "google_artifact_registry_repository": ("kms_key_name",),
    "google_kms_crypto_key": ("rotation_period",),
}
"""By resource, where the key stands that what it keeps is encrypted with."""


def faults(template: Mapping[str, Any]) -> list[str]:
    """What is wrong with a template (`*.tf.json`, parsed), each with the place; empty when nothing is."""
    return [
        *_versions(template), *_variables(template), *_references(template), *_open(template), *_public(template),
        *_encryption(template), *_rights(template), *_secrets(template),
    ]  # fmt: skip


def _versions(template: Mapping[str, Any]) -> Iterator[str]:
    settings = template.get("terraform", {})
    if "<" not in settings.get("required_version", "") and "~>" not in settings.get("required_version", ""):
        yield "terraform: `required_version` has no upper bound"
    providers = settings.get("required_providers", {})
    for kind in sorted({kind.partition("_")[0] for kind in _types(template)} - {"terraform"}):
        if kind not in providers:
            yield f"terraform: provider {kind} is used and not listed in `required_providers`"
    for name, provider in providers.items():
        if not _EXACT.match(provider.get("version", "")):
            yield f"terraform: provider {name} has no exact version"


def _variables(template: Mapping[str, Any]) -> Iterator[str]:
    for name, variable in template.get("variable", {}).items():
        if "type" not in variable or not variable.get("description"):
            yield f"variable.{name}: has no type or no description"
        elif "default" in variable or not variable["description"].startswith(PERSON):
            yield f"variable.{name}: has a default, or does not say that a person fills it"


def _references(template: Mapping[str, Any]) -> Iterator[str]:
    known = {("var", name) for name in template.get("variable", {})}
    known |= {("local", name) for name in template.get("locals", {})}
    known |= {(f"data.{kind}", name) for kind, named in template.get("data", {}).items() for name in named}
    known |= {(kind, name) for kind, named in template.get("resource", {}).items() for name in named}
    used = set()
    for place, text in _texts(template):
        for reference in references(text):
            used.add(reference)
            if reference not in known:
                yield f"{place}: {'.'.join(reference)} is declared nowhere"
    for kind, name in sorted(known - used):
        if kind in ("var", "local") or kind.startswith("data."):
            yield f"{kind}.{name}: is declared and not used"


def references(text: str) -> Iterator[tuple[str, str]]:
    """What the expressions in a text refer to: `("var", "region")`, `("google_x", "y")`, `("data.google_x", "y")`."""
    for expression in _INTERPOLATION.findall(text):
        yield from _paths(_TEXT.sub('""', expression))


def _paths(expression: str) -> Iterator[tuple[str, str]]:
    for head, rest in _PATH.findall(expression):
        parts = re.findall(r"\.(\w+)", re.sub(r"\[[^\]]*\]", "", rest))
        if head in ("var", "local") and parts:
            yield head, parts[0]
        elif head == "data" and len(parts) > 1:
            yield f"data.{parts[0]}", parts[1]
        elif "_" in head and parts and head not in _WORDS:
            yield head, parts[0]
        for inside in re.findall(r"\[([^\]]*)\]", rest):
            yield from _paths(inside)


def _open(template: Mapping[str, Any]) -> Iterator[str]:
    for place, text in _texts(template):
        if text in ANYWHERE:
            yield f"{place}: {text} lets the whole internet in"


def _public(template: Mapping[str, Any]) -> Iterator[str]:
    for kind in _ADDRESSES & set(template.get("resource", {})):
        yield f"{kind}: gives an address on the internet"
    for place, key, value in _items(template.get("resource", {}), "resource"):
        if key in _PUBLIC and value not in (False, None):
            yield f"{place}: gives an address on the internet"
        if key in ("enable_private_nodes", "enable_private_endpoint") and value is not True:
            yield f"{place}: must be true"
        if key == "type" and value in ("LoadBalancer", "NodePort"):
            yield f"{place}: opens a way in beside the gateway"
    for name, cluster in template.get("resource", {}).get("google_container_cluster", {}).items():
        if not cluster.get("private_cluster_config", {}).get("enable_private_nodes"):
            yield f"google_container_cluster.{name}: its nodes have public addresses"


def _encryption(template: Mapping[str, Any]) -> Iterator[str]:
    for kind, way in _ENCRYPTED.items():
        for name, resource in template.get("resource", {}).get(kind, {}).items():
            value: Any = resource
            for step in way:
                value = value.get(step) if isinstance(value, Mapping) else None
            if not value:
                yield f"{kind}.{name}: has no `{'.'.join(way)}`"


def _rights(template: Mapping[str, Any]) -> Iterator[str]:
    for place, key, value in _items(template.get("resource", {}), "resource"):
        if key == "role" and isinstance(value, str) and _BROAD.search(value):
            yield f"{place}: {value} is more than any of these accounts needs"
        if key in ("member", "members") and _EVERYBODY & ({value} if isinstance(value, str) else set(value)):
            yield f"{place}: names everybody"
        if key in ("verbs", "resources", "api_groups") and isinstance(value, list) and "*" in value:
            yield f"{place}: `*` is every one there is"
        if key == "resources" and isinstance(value, list) and "secrets" in value:
            yield f"{place}: secrets are not its business"
    for name, pool in template.get("resource", {}).get("google_container_node_pool", {}).items():
        if not pool.get("node_config", {}).get("service_account"):
            yield f"google_container_node_pool.{name}: its nodes have the project's default account"


def _secrets(template: Mapping[str, Any]) -> Iterator[str]:
    for number, line in enumerate(json.dumps(template, indent=1).splitlines(), 1):
        if kind := kind_of(line):
            yield f"line {number}: looks like a {kind}"


def _types(template: Mapping[str, Any]) -> list[str]:
    return [*template.get("resource", {}), *template.get("data", {})]


def _items(value: Any, place: str) -> Iterator[tuple[str, str, Any]]:
    """Every key with its value, and where it stands."""
    if isinstance(value, Mapping):
        for key, each in value.items():
            yield f"{place}.{key}", str(key), each
            yield from _items(each, f"{place}.{key}")
    elif isinstance(value, list):
        for number, each in enumerate(value):
            yield from _items(each, f"{place}[{number}]")


def _texts(value: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """Every text, and where it stands."""
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, Mapping):
        for key, each in value.items():
            yield from _texts(each, f"{place}.{key}".strip("."))
    elif isinstance(value, list):
        for number, each in enumerate(value):
            yield from _texts(each, f"{place}[{number}]")
