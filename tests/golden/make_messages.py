"""Adds samples and names of new messages and new versions. Never changes what is there: records hold it."""

from __future__ import annotations

import json

from schemas.registry import COMMANDS, EVENTS
from tests.golden.samples import MESSAGES, NAMES, line_of


def main() -> None:
    lines = MESSAGES.read_bytes().splitlines() if MESSAGES.exists() else []
    names = json.loads(NAMES.read_text("utf-8")) if NAMES.exists() else {"commands": {}, "events": {}}
    have = {("sender" in body, body["type"], body["version"]) for body in map(json.loads, lines)}
    for kind, registry in (("commands", COMMANDS), ("events", EVENTS)):
        for name, message in sorted(registry.items()):
            if (kind == "commands", name, message.version) not in have:
                lines.append(line_of(message))
                print(f"added a sample of {kind} {name} version {message.version}")
            versions = names[kind].setdefault(name, {})
            versions.setdefault(str(message.version), list(message.cls.model_fields))
        names[kind] = dict(sorted(names[kind].items()))
    MESSAGES.write_bytes(b"".join(line + b"\n" for line in lines))
    NAMES.write_text(json.dumps(names, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
