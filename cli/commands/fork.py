"""`valuetrain session fork`: go on from a point of a session's record, differently."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from cli.commands.session import SessionArgument, refused
from cli.options import DEFAULT_HOME, AsOption, HomeOption, JsonOption, guard, say, show_json


def fork(
    session: SessionArgument,
    at: Annotated[
        str,
        typer.Option(
            "--from", metavar="SEQ|PHASE", help="The event after which, or the phase before which, the fork begins."
        ),
    ],
    planner: Annotated[
        Literal["playbook", "llm"] | None,
        typer.Option(
            "--planner", help="Who plans the fork's phases [default: llm with --model or --prompt, else as set]."
        ),
    ] = None,
    model: Annotated[
        str, typer.Option("--model", metavar="NAME", help="The model to ask, one the session's policy has a price for.")
    ] = "",
    prompt: Annotated[
        Path | None,
        typer.Option("--prompt", metavar="FILE", help="What the model is told besides its task; - is standard input."),
    ] = None,
    as_name: AsOption = None,
    reason: Annotated[str, typer.Option(help="Why, for the record.")] = "",
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Begin a new session as another one was after an event, and go on with another model or other instructions.

    The other session is not touched. The fork has its own branch and budgets; gates passed since are to be passed anew.

    Example: `valuetrain session fork s7-m2p9w --from build --model qwen3-coder:30b --prompt hints.md --as dana`
    """
    with guard(home, as_json):
        from cli.forks import instructions_in, make_fork, no_model

        done = make_fork(home, session, at, planner or "", model, instructions_in(prompt), reason, as_name)
        if done.refusal is not None:
            refused(*done.refusal, as_json)
        if as_json:
            return show_json(done.as_dict())
        for line in done.lines():
            say(line)
        if no_model(home, done):
            say("note: it asks a model and none is set here: name model_base_url and model_name (docs/llm.md)")
