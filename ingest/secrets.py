"""Where secrets of sources are: files that only we may read, or variables of the environment."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ingest.errors import SourceError
from ingest.settings import Source


def secrets_of(source: Source, base: Path, environment: Mapping[str, str]) -> dict[str, str]:
    """The secrets of a source by name (`password`; `access_key`, `secret_key`, `session_token`), as far as it names
    them. Relative paths are below `base`. Raises SourceError naming file or variable, never what is in it."""
    names = ("password",) if source.kind == "sql" else ("access_key", "secret_key", "session_token")
    found = {}
    for name in names:
        file, variable = getattr(source, f"{name}_file"), getattr(source, f"{name}_env")
        if file is not None:
            found[name] = _in_file(source.name, f"{name}_file", base / file)
        elif variable is not None:
            if not environment.get(variable):
                raise SourceError(f"source {source.name}: {variable} is not set", f"export it, or name a {name}_file")
            found[name] = environment[variable]
    for name, secret in found.items():
        if not secret or not secret.isprintable():
            where = "is empty" if not secret else "holds control characters"
            raise SourceError(f"source {source.name}: its {name} {where}", "give the secret alone, on one line")
    return found


def _in_file(source: str, field: str, path: Path) -> str:
    try:
        if path.stat().st_mode & 0o077:
            raise SourceError(f"source {source}: {field} {path} can be read by others", f"run: chmod 600 {path}")
        return path.read_text("utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as problem:
        why = problem.strerror if isinstance(problem, OSError) else "it is not text"
        remedy = "make the file, or name another"
        raise SourceError(f"source {source}: {field} {path} cannot be read: {why}", remedy) from None
