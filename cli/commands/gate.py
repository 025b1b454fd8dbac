"""`valuetrain gate`: what waits for a person, and the person's answer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from cli.errors import Exit
from cli.options import DEFAULT_HOME, AsOption, HomeOption, JsonOption, fail, guard, say, show_json

app = typer.Typer(no_args_is_help=True, help="See and decide the gates that wait for a person.")

GateArgument = Annotated[str, typer.Argument(metavar="GATE", help="The gate's id, from `valuetrain gate list`.")]


@app.command("list")
def list_gates(
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
    every: Annotated[bool, typer.Option("--all", help="Also the decided and the automatic ones.")] = False,
) -> None:
    """List the gates that wait for a person.

    Example: `valuetrain gate list --json`
    """
    with guard(home, as_json):
        from cli.reading import reading

        with reading(home) as record:
            gates = [g for g in record.gates() if every or (g["kind"] == "human" and g["status"] == "open")]
        if as_json:
            return show_json(gates)
        if not gates:
            return say("No gate waits for a person.")
        for gate in gates:
            say(f"{gate['gate']}  {gate['status']}  ticket {gate['ticket']}: {gate['title']}")
            say(f"    why: {gate['reason']}")
            say(f"    may decide: {', '.join(gate['may_decide']) or 'nobody; see policy.yaml'}")


@app.command("approve")
def approve(
    gate: GateArgument,
    as_name: AsOption = None,
    reason: Annotated[str, typer.Option(help="Why, for the record.")] = "",
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Approve a gate, while a drive runs or between drives.

    Example: `valuetrain gate approve s3-x7k2q.risk-review.1 --as dana --reason "numbers checked"`
    """
    _decide(home, as_json, gate, "approve", as_name, reason)


@app.command("reject")
def reject(
    gate: GateArgument,
    as_name: AsOption = None,
    reason: Annotated[str, typer.Option(help="Why; a rejection needs one.")] = "",
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Reject a gate; its session is blocked until a person retries it.

    Example: `valuetrain gate reject s3-x7k2q.risk-review.1 --as dana --reason "recall too low for women"`
    """
    _decide(home, as_json, gate, "reject", as_name, reason)


def _decide(
    home: Path, as_json: bool, gate: str, decision: Literal["approve", "reject"], as_name: str | None, reason: str
) -> None:
    with guard(home, as_json):
        from cli.operator import ask
        from schemas.commands import DecideGate

        session = gate.partition(".")[0]
        verdict = ask(home, session, DecideGate(gate=gate, decision=decision, reason=reason), as_name)
        if not verdict["accepted"]:
            refused = verdict["code"] in ("not_an_approver", "not_an_operator", "not_allowed")
            fail(verdict["reason"], Exit.REFUSED if refused else Exit.ERROR, as_json)
        passed = any(name == "gate_passed" for name, _ in verdict["events"])
        if as_json:
            return show_json({"gate": gate, "decision": decision, "by": verdict["by"], "passed": passed})
        if decision == "reject":
            return say(f"Gate {gate} is rejected by {verdict['by']}; the session is blocked.")
        if passed:
            return say(f"Gate {gate} is approved by {verdict['by']}; `valuetrain drive` goes on from here.")
        say(f"{verdict['by']} approved gate {gate}; more approvals are needed.")
