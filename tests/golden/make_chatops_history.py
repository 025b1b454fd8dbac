"""Records a session whose gates are decided in comments, in Slack and by an admin.

    python -m tests.golden.make_chatops_history

Like `make_history`: committed once, replayed for ever by `test_chatops_history.py`.
"""

from __future__ import annotations

from pathlib import Path

from schemas import commands as cmd
from schemas.envelope import encode_command, encode_event
from schemas.policy import Account, Approver, Policy
from tests.conductor.rig import TICKET, Rig, person

HISTORY = Path(__file__).parent / "chatops.history.jsonl"

POLICY = Policy(
    approvers=(Approver(name="dana", github=(4711,), slack=("U024BE7LH",)), Approver(name="erik", github=(4712,))),
    operators=("olga",),
    admins=("adam",),
    accounts=(Account(name="olga", github=(4713,)), Account(name="adam", github=(4714,))),
)
DANA, ERIK = person("dana", "github", "github:4711"), person("erik", "github", "github:4712")
DANA_ON_SLACK = person("dana", "slack", "slack:U024BE7LH")
OLGA, ADAM = person("olga", "github", "github:4713"), person("adam", "github", "github:4714")


def record() -> list[bytes]:
    """The story as canonical bytes: each command, then the events it caused."""
    ticket = TICKET.model_copy(update={"origin": "github:acme/models", "requester_id": 4799, "labeller_id": 4712})
    rig = Rig(ticket=ticket, policy=POLICY)
    rig.effects()
    rig.to("build-it")
    rig.work()
    gate = rig.state.phases["build-it"].gate
    approve = cmd.DecideGate(gate=gate, decision="approve")
    rig.refused(approve, "chatops", person("dana", "github", "github:4712"))
    rig.refused(approve, "chatops", ERIK)
    rig.refused(approve, "chatops", person("dana"))
    rig.refused(approve.model_copy(update={"commit": "deadbee"}), "chatops", DANA)
    rig.accepted(approve.model_copy(update={"commit": rig.state.gates[gate].commit}), "chatops", DANA)
    rig.refused(approve, "chatops", DANA_ON_SLACK)
    rig.accepted(cmd.CancelApproval(gate=gate, reason="the wrong run"), "chatops", DANA_ON_SLACK)
    rig.refused(cmd.CancelApproval(gate=gate), "chatops", DANA)
    rig.accepted(cmd.HoldGate(gate=gate), "chatops", OLGA)
    override = cmd.OverrideGate(gate=gate, reason="the release waits")
    rig.refused(override, "chatops", ADAM)
    rig.accepted(cmd.UnholdGate(gate=gate), "chatops", OLGA)
    rig.refused(override, "chatops", OLGA)
    rig.refused(override.model_copy(update={"reason": ""}), "chatops", ADAM)
    rig.accepted(override, "chatops", ADAM)
    rig.work()
    rig.effects()
    assert rig.state.status.value == "completed"
    rig.accepted(cmd.RollbackSession(phase="judge-it", reason="once more"), "chatops", OLGA)
    rig.effects()
    return _lines(rig)


def _lines(rig: Rig) -> list[bytes]:
    found: list[bytes] = []
    for command in rig.commands:
        found.append(encode_command(command))
        found += [encode_event(event) for event in rig.log if event.causation_id == command.id]
    return found


def main() -> None:
    if HISTORY.exists():
        raise SystemExit(f"{HISTORY.name} is there: what was recorded stays")
    HISTORY.write_bytes(b"".join(line + b"\n" for line in record()))


if __name__ == "__main__":
    main()
