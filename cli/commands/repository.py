"""`valuetrain hooks install` and `valuetrain check`: quality gates in the repository itself."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.errors import CliError, Exit
from cli.options import DEFAULT_HOME, JsonOption, guard, say, show_json

hooks_app = typer.Typer(no_args_is_help=True, help="Git hooks that hold a repository to the rules of `check`.")
RepoOption = Annotated[Path, typer.Option("--repo", metavar="DIR", help="The git repository [default: the one here].")]


@hooks_app.command("install")
def hooks_install(repo: RepoOption = Path(), as_json: JsonOption = False) -> None:
    """Write the hooks `pre-commit` and `pre-push`, which call `valuetrain check`. Hooks of others are left alone.

    Example: `valuetrain hooks install`
    """
    with guard(repo / DEFAULT_HOME, as_json):
        from workspace.checking import install_hooks
        from workspace.git import Repository

        made = install_hooks(Repository(repo.resolve()))
        if as_json:
            return show_json({"made": [str(path) for path in made]})
        for path in made:
            say(f"made  {path}")


def check(
    base: Annotated[
        str | None, typer.Option("--base", metavar="REV", help="Check what the branch changed since it left REV.")
    ] = None,
    staged: Annotated[bool, typer.Option("--staged", help="Check what is staged for the next commit.")] = False,
    branch: Annotated[
        str | None, typer.Option("--branch", metavar="NAME", help="The branch's name, where none is checked out (CI).")
    ] = None,
    largest: Annotated[int, typer.Option("--largest", metavar="BYTES", min=1, help="The largest file.")] = 5_000_000,
    pull: Annotated[
        Path | None,
        typer.Option("--pull", metavar="FILE", help="A pull request as GitHub's API has it, with --reviews."),
    ] = None,
    reviews: Annotated[
        Path | None,
        typer.Option("--reviews", metavar="FILE", help="Its reviews: a person must have approved its newest commit."),
    ] = None,
    repo: RepoOption = Path(),
    as_json: JsonOption = False,
) -> None:
    """Hold a change to the repository's rules: branch names, sizes, ticket folders, and a person's review.

    Examples:

    `valuetrain check --base origin/main`

    `valuetrain check --base origin/main --branch phase/delivery_12-k7m2p --pull pull.json --reviews reviews.json`

    Exit codes: 0 nothing is wrong, 1 something is, 2 usage.
    """
    with guard(repo / DEFAULT_HOME, as_json):
        from cli.checking import examine

        if (base is None) == (not staged):
            raise CliError("give either --base REV or --staged", Exit.USAGE)
        if (pull is None) != (reviews is None):
            raise CliError("--pull and --reviews belong together: give both, or neither", Exit.USAGE)
        found = examine(repo.resolve(), base, branch, largest, pull, reviews)
        if as_json:
            show_json(found)
        for finding in [] if as_json else found:
            say(f"{finding['rule']:<7} {finding['where']}: {finding['reason']}; {finding['remedy']}")
        if found:
            raise typer.Exit(int(Exit.ERROR))
        if not as_json:
            say("nothing is wrong")
