"""`valuetrain model`: what is in the model registry. Read-only; the effect executor alone writes it."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.options import DEFAULT_HOME, HomeOption, JsonOption, guard, say, show_json

app = typer.Typer(no_args_is_help=True, help="See which models are registered, and which version is the candidate.")


@app.command("list")
def list_models(home: HomeOption = DEFAULT_HOME, as_json: JsonOption = False) -> None:
    """List the models in the registry, each with its newest version and its aliases.

    Example: `valuetrain model list`
    """
    with guard(home, as_json):
        from cli.models import model_rows, registry_of

        rows = model_rows(registry_of(home))
        if as_json:
            return show_json(rows)
        for row in rows:
            aliases = ", ".join(f"{alias} is version {at}" for alias, at in row["aliases"].items()) or "no alias"
            say(f"{row['model']}: {row['versions']} versions, newest {row['newest']}; {aliases}")
        if not rows:
            say("No model is registered yet.")


@app.command("show")
def show(
    name: Annotated[str, typer.Argument(metavar="NAME", help="The model, as `model list` shows it.")],
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Show a model's versions, the newest first: session, commit, digest, figures, aliases.

    Example: `valuetrain model show tell-cultivars-apart`
    """
    with guard(home, as_json):
        from cli.models import registry_of, version_rows

        rows = version_rows(registry_of(home), name)
        if as_json:
            return show_json({"model": name, "versions": rows})
        for row in rows:
            marks = [*row["aliases"], *(["rolled back"] if row["rolled_back"] else [])]
            say(f"{name} {row['version']}" + (f" ({', '.join(marks)})" if marks else ""))
            say(f"  {row['created']}, session {row['session']}, branch {row['branch']} at {row['commit'][:12]}")
            say(f"  {row['location']}, sha256 {row['sha256']}")
            if row["metrics"]:
                say("  " + ", ".join(f"{figure} {value:.6g}" for figure, value in row["metrics"].items()))
