"""The child's side: reads one item of one source in a process of its own, which ends with its secret.

Request and answer are plain JSON. Nothing that is raised here leaves the process: an answer never holds a secret.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ingest.errors import SourceError, told, without
from ingest.settings import S3Item, S3Source, SqlItem, SqlSource


def run(request: dict[str, Any]) -> dict[str, Any]:
    """Read an item.

    `request` has `kind`, `source` and `item` (as in `ingest.settings`), `secrets` by name, `base` (where relative paths
    begin), and `out`, the file for the rows, or None only to look whether they can be read. The answer has `rows`,
    `columns`, `format` and `version` (a look: what was seen), or `problem`, `remedy` and `away`.
    """
    secrets: dict[str, str] = request["secrets"]
    try:
        return _read(request, secrets)
    except SourceError as problem:
        return {
            "problem": without(problem.problem, secrets.values()),
            "remedy": without(problem.remedy, secrets.values()),
            "away": problem.away,
        }
    except MemoryError:
        raise
    except Exception as problem:  # a fault of ours; its trace may hold what was read
        said = told(f"{type(problem).__name__}: {problem}", secrets.values())
        shown = f"{request['source']['name']}/{request['item']['name']}"
        return {"problem": f"{shown} cannot be read: {said}", "remedy": "report this as a bug", "away": False}


def _read(request: dict[str, Any], secrets: dict[str, str]) -> dict[str, Any]:
    base, out = Path(request["base"]), Path(request["out"]) if request["out"] else None
    if request["kind"] == "sql":
        from ingest import sql

        database, table = SqlSource.model_validate(request["source"]), SqlItem.model_validate(request["item"])
        if out is None:
            return {"seen": f"{sql.look(database, table, secrets, base):,} columns"}
        rows, columns = sql.read(database, table, secrets, out, base)
        return {"rows": rows, "columns": columns, "format": "parquet", "version": ""}
    from ingest import s3

    bucket, part = S3Source.model_validate(request["source"]), S3Item.model_validate(request["item"])
    if out is None:
        return {"seen": f"{s3.look(bucket, part, secrets, base):,} bytes"}
    read = s3.read(bucket, part, secrets, out, base)
    return {"rows": read.rows, "columns": read.columns, "format": part.stored, "version": read.version}
