"""`valuetrain gate`: what waits for a person, and the person's answer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from cli.errors import Exit
from cli.options import DEFAULT_HOME, AsOption, HomeOption, JsonOption, fail, guard, say, show_json

app = typer.Typer(no_args_is_help=True, help="See, decide, hold and release the gates that wait for a person.")

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
            if gate.get("held"):
                say(f"    held; release it with: valuetrain gate unhold {gate['gate']}")
            if gate.get("expires"):
                say(f"    expires {gate['expires']}")
            if gate.get("problem"):
                say(f"    cannot pass: {gate['problem']}")


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
    to: Annotated[
        str | None,
        typer.Option("--to", metavar="PHASE", help="Send the session back to this phase, if its pipeline can."),
    ] = None,
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Reject a gate; its session is blocked until a person retries it, or goes back to an earlier phase.

    Examples:

    `valuetrain gate reject s3-x7k2q.risk-review.1 --as dana --reason "recall too low for women"`

    `valuetrain gate reject s3-x7k2q.validation.1 --to training --reason "try fewer features"`
    """
    if to is None:
        return _decide(home, as_json, gate, "reject", as_name, reason)
    with guard(home, as_json):
        from schemas.commands import SendBack

        verdict = _ask(home, as_json, gate, SendBack(gate=gate, phase=to, reason=reason), as_name)
        back = any(name == "phase_repeated" for name, _ in verdict["events"])
        if as_json:
            return show_json({"gate": gate, "decision": "reject", "to": to, "by": verdict["by"], "went_back": back})
        if back:
            return say(f"Gate {gate} is rejected by {verdict['by']}; the session goes back to {to}.")
        say(f"Gate {gate} is rejected by {verdict['by']}; no way back is left, so the session is blocked.")


@app.command("hold")
def hold(
    gate: GateArgument,
    as_name: AsOption = None,
    reason: Annotated[str, typer.Option(help="Why, for the record.")] = "",
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Keep a gate from being decided, and from expiring, until it is released.

    Example: `valuetrain gate hold s3-x7k2q.risk-review.1 --reason "legal looks at it"`
    """
    with guard(home, as_json):
        from schemas.commands import HoldGate

        verdict = _ask(home, as_json, gate, HoldGate(gate=gate, reason=reason), as_name)
        if as_json:
            return show_json({"gate": gate, "held": True, "by": verdict["by"]})
        say(f"Gate {gate} is held by {verdict['by']}.")


@app.command("unhold")
def unhold(
    gate: GateArgument,
    as_name: AsOption = None,
    reason: Annotated[str, typer.Option(help="Why, for the record.")] = "",
    home: HomeOption = DEFAULT_HOME,
    as_json: JsonOption = False,
) -> None:
    """Release a gate that is held.

    Example: `valuetrain gate unhold s3-x7k2q.risk-review.1`
    """
    with guard(home, as_json):
        from schemas.commands import UnholdGate

        verdict = _ask(home, as_json, gate, UnholdGate(gate=gate, reason=reason), as_name)
        if as_json:
            return show_json({"gate": gate, "held": False, "by": verdict["by"]})
        say(f"Gate {gate} is released by {verdict['by']} and can be decided.")


def _ask(home: Path, as_json: bool, gate: str, command: Any, as_name: str | None) -> dict[str, Any]:
    from cli.operator import ask

    verdict = ask(home, gate.partition(".")[0], command, as_name)
    if not verdict["accepted"]:
        refused = verdict["code"] in ("not_an_approver", "not_an_operator", "not_allowed")
        fail(verdict["reason"], Exit.REFUSED if refused else Exit.ERROR, as_json)
    return verdict


def _decide(
    home: Path, as_json: bool, gate: str, decision: Literal["approve", "reject"], as_name: str | None, reason: str
) -> None:
    with guard(home, as_json):
        from schemas.commands import DecideGate

        verdict = _ask(home, as_json, gate, DecideGate(gate=gate, decision=decision, reason=reason), as_name)
        passed = any(name == "gate_passed" for name, _ in verdict["events"])
        if as_json:
            return show_json({"gate": gate, "decision": decision, "by": verdict["by"], "passed": passed})
        if decision == "reject":
            return say(f"Gate {gate} is rejected by {verdict['by']}; the session is blocked.")
        if passed:
            return say(f"Gate {gate} is approved by {verdict['by']}; `valuetrain drive` goes on from here.")
        say(f"{verdict['by']} approved gate {gate}; more approvals are needed.")
