"""The command tree. Imports stay light: each command brings in what it needs when it runs."""

from __future__ import annotations

import typer

from cli.commands import (
    audit,
    components,
    credentials,
    db,
    dlq,
    feature,
    gate,
    model,
    operate,
    pipeline,
    report,
    repository,
    risk,
    schema,
    session,
    skill,
    source,
    ticket,
)
from cli.commands import drive as driving
from cli.commands.fork import fork

app = typer.Typer(
    name="valuetrain",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    help=(
        "Takes machine learning tickets from a backlog through gated phases to trained, evaluated, documented and "
        "signed models, and records every decision.\n\n"
        "First steps: `valuetrain init`, then `valuetrain drive --backlog backlog`.\n\n"
        "Exit codes: 0 all done, 1 error, 2 usage, 3 a person is waited for, 4 something is blocked, "
        "5 refused by the policy, 130 stopped."
    ),
)
app.command("init")(operate.init)
app.command("doctor")(operate.doctor)
app.command("up")(components.up)
app.command("tail")(operate.tail)
app.command("check")(repository.check)
app.add_typer(repository.hooks_app, name="hooks")
app.add_typer(driving.app, name="drive")
app.add_typer(ticket.app, name="ticket")
app.add_typer(pipeline.app, name="pipeline")
app.add_typer(skill.app, name="skill")
app.add_typer(source.app, name="source")
session.app.command("fork")(fork)
app.add_typer(session.app, name="session")
app.add_typer(gate.app, name="gate")
app.add_typer(model.app, name="model")
app.add_typer(report.app, name="report")
app.add_typer(risk.app, name="risk")
app.add_typer(feature.app, name="feature")
app.add_typer(audit.app, name="audit")
app.add_typer(db.app, name="db")
app.add_typer(dlq.app, name="dlq")
app.add_typer(components.conductor_app, name="conductor")
app.add_typer(components.agent_app, name="agent")
app.add_typer(components.effects_app, name="effects")
app.add_typer(components.gateway_app, name="gateway")
app.add_typer(components.autopilot_app, name="autopilot")
app.add_typer(components.chatops_app, name="chatops")
app.add_typer(credentials.app, name="credentials")
app.add_typer(schema.app, name="schema")
