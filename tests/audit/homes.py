"""A home with a small recorded session: real files, real signatures, no agents and no bus."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from autopilot.signing import load_or_create_key, sign
from cli.app import app
from cli.checkpointing import Checkpointing
from cli.home import Home
from conductor.service import Conductor
from schemas.commands import StartSession
from schemas.envelope import StreamId
from schemas.messages import Command
from schemas.values import Actor, ArtifactRef
from store.sqlite import SqliteStore
from tests.conductor.rig import DANA, ERIK, MACHINE, SESSION, TENANT, Rig
from workspace.blobs import Blobs
from workspace.git import EFFECT, Repository
from workspace.worktree import Worktree

STREAM = StreamId(TENANT, "session", SESSION)
CONTENT = {name: f"what {name} holds".encode() for name in ("plan.json", "model.bin", "proof.json", "report.md")}
HOSTILE = "<script>alert(1)</script> | [click](javascript:alert(1))"


@dataclass
class Place:
    """The home and what its session is doing."""

    home: Home
    rig: Rig
    commit: Callable[[str], str] | None = None
    """Makes a real commit for an effect, where there is a repository."""
    blobs: Blobs = field(init=False)
    recorded: int = 0
    extra: dict[str, bytes] = field(default_factory=dict)
    """Artifacts that each phase leaves besides those of its definition."""

    def __post_init__(self) -> None:
        self.blobs = Blobs(self.home.blobs)

    def work(self) -> None:
        """The current phase to its end, with real artifacts and signatures."""
        rig = self.rig
        names = rig.state.definition.artifacts
        refs = tuple(ArtifactRef(name=n, sha256=self.put(n), size=len(CONTENT[n])) for n in names)
        more = [(name, *self.blobs.put(content)) for name, content in self.extra.items()]
        refs += tuple(ArtifactRef(name=name, sha256=sha256, size=size) for name, sha256, size in more)
        rig.claim()
        rig.report(artifacts=refs, summary=HOSTILE)
        while rig.state.effects:
            effect = rig.state.effects[0]
            changes: dict[str, Any] = {}
            if effect.kind == "sign":
                envelope = sign(CONTENT[effect.target], load_or_create_key(self.home.key))
                sha256, size = self.blobs.put(envelope)
                changes["artifacts"] = (ArtifactRef(name=f"{effect.target}.dsse.json", sha256=sha256, size=size),)
            elif self.commit is not None:
                changes["commit"] = self.commit(effect.id)
            rig.accepted(rig.receipt_command(**changes), "autopilot")

    def put(self, name: str) -> str:
        return self.blobs.put(CONTENT[name])[0]

    def record(self) -> None:
        """Write what the session did since the last time, through the conductor."""
        with closing(SqliteStore.open(self.home.record)) as store:
            Conductor(store, TENANT)._handle(self.rig.commands[self.recorded :])
        self.recorded = len(self.rig.commands)

    def send(self, command: Command, sender: str, actor: Actor = MACHINE) -> None:
        self.rig.send(command, sender, actor)

    def sign(self) -> None:
        """A checkpoint, as the system makes one when it stops."""
        with closing(SqliteStore.open(self.home.record)) as store:
            assert Checkpointing(store, self.home.record_key).sign() is not None

    def sql(self, *statements: str) -> None:
        """What one who may write the file does to it."""
        with closing(sqlite3.connect(self.home.record, isolation_level=None)) as db:
            for statement in statements:
                assert db.execute(statement).rowcount != 0, statement

    def run(self, *words: str | Path) -> tuple[int, Any]:
        """A command on this home with `--json`: exit code and document."""
        result = CliRunner().invoke(app, [*map(str, words), "--home", str(self.home.path), "--json"])
        assert result.exception is None or isinstance(result.exception, SystemExit), result.output
        return result.exit_code, json.loads(result.stdout)

    def say(self, *words: str | Path) -> str:
        """The same without `--json`: what it printed."""
        return CliRunner().invoke(app, [*map(str, words), "--home", str(self.home.path)]).output

    def findings(self, *words: str | Path) -> list[tuple[str, str]]:
        """Where and what `audit verify` finds; the exit code says the same."""
        code, document = self.run("audit", "verify", *words)
        found = [(f["where"], f["problem"]) for f in document["findings"]]
        assert code == (1 if found else 0)
        return found


def completed(path: Path, blank: Path, extra: dict[str, bytes] | None = None) -> Place:
    """A session that is done, under two checkpoints: one in the middle and one at the end."""
    return _completed(Place(_home(path, blank), Rig(), extra=extra or {}))


def completed_in(repository: Path, blank: Path) -> Place:
    """The same in a real repository, with a commit for each phase on the session's branch."""
    start = Repository(repository).head_commit()
    rig = Rig()
    fields = dict(rig.start_command()) | {"repository": str(repository), "base_commit": start}
    rig.start_command = lambda: StartSession(**fields)  # type: ignore[method-assign]
    home = _home(repository / ".valuetrain", blank)
    tree = Worktree.create(Repository(repository), home.worktrees / SESSION, "phase/12", start)

    def commit(effect: str) -> str:
        files = {"phases.txt": f"as of {effect}\n".encode()}
        return tree.commit(files, f"Phase {effect}", rig.now, {EFFECT: effect})

    place = _completed(Place(home, rig, commit))
    tree.remove()
    return place


def _home(path: Path, blank: Path) -> Home:
    home = Home(path)
    home.prepare()
    home.record.write_bytes(blank.read_bytes())
    return home


def _completed(place: Place) -> Place:
    place.rig.start()
    place.work()
    place.record()
    place.sign()
    place.work()
    for person in (DANA, ERIK):
        place.rig.decide("approve", person)
    place.work()
    place.record()
    place.sign()
    return place
