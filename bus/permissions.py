"""Who may do what on the bus: one login per role, allow lists as narrow as the role's work permits. Pure.

The NATS server enforces these lists; a sender token in a command's subject is therefore identity and not a claim.

Only the conductor makes JetStream streams and consumers, everybody else binds to what is there. Nobody reads a
JetStream stream by making a consumer of his own: `$JS.API.CONSUMER.CREATE` would let him change the agents' durable
consumers too (NATS wildcards match whole tokens, so no name prefix can be demanded), and a push consumer's deliver
subject is checked by nobody. Following reads by direct get instead, which leaves nothing behind on the server.

What the lists cannot prevent: the server answers to whatever reply subject a requester names, without asking whether
he may publish there. So no login may read, with a reply subject of its choice, from a JetStream stream into which
another login of less trust can write bytes of its choice (VT_DEAD, VT_TELEMETRY, VT_COMMANDS); and what arrives
without the header the bus puts on everything it publishes is not handed to anybody (`bus.messages.is_ours`). A reply
subject may also be one of the JetStream API, where an empty answer counts as a request: a login that may pull can have
the JetStream streams of its tenant purged or deleted so. Nothing that counts is only there: the conductor makes them
again, the relay publishes the record again, senders send again. Another tenant's are out of reach where each tenant has
an account of its own (`bus.server_config`).
"""

from __future__ import annotations

from dataclasses import dataclass

import schemas.registry  # noqa: F401 - the allow lists derive from the declared commands
from schemas.subjects import ROOT, ask_subject, publish_subjects
from schemas.values import Role, Sender

OBSERVER = "observer"
ROLES: tuple[str, ...] = (*(str(sender) for sender in Sender), OBSERVER, *(str(role) for role in Role))
"""Every login there is."""

LIVE = "live"
"""JetStream repeats what VT_EVENTS has stored on `live.<subject>`: followers listen there; nobody publishes there."""

STREAMS = ("VT_COMMANDS", "VT_EVENTS", "VT_TELEMETRY", "VT_DEAD")
_API = "$JS.API"


@dataclass(frozen=True, slots=True)
class Permissions:
    """The subjects a login may publish on and subscribe to; everything else is refused."""

    publish: tuple[str, ...]
    subscribe: tuple[str, ...]


def inbox_prefix(role: str) -> str:
    """Below this a role receives answers, and nobody else may listen."""
    return f"_INBOX.{role}"


def agent_consumer_name(role: Role | str) -> str:
    """The durable consumer all replicas of an agent share."""
    return f"agent-{role}"


def permissions(role: str, tenant: str = "*") -> Permissions:
    """The allow lists of a login, for one tenant or (`*`) all. Raises ValueError for a role that does not exist."""
    if role not in ROLES:
        raise ValueError(f"no such role: {role!r}; there are {', '.join(ROLES)}")
    publish = [*publish_subjects(tenant, role)]
    subscribe = [f"{inbox_prefix(role)}.>"]
    if role == Sender.CONDUCTOR:
        publish += _conductor(tenant)
    if role in set(Role):
        publish += _consume(tenant, "VT_EVENTS", agent_consumer_name(role))
        publish.append(ask_subject(tenant, "*", role))
    if role == Sender.GATEWAY:
        publish += [f"{inbox_prefix(agent)}.>" for agent in Role]
        publish += [f"{_API}.STREAM.INFO.VT_EVENTS", f"{_API}.DIRECT.GET.VT_EVENTS"]
        subscribe += [ask_subject(tenant, "*", "*"), f"{LIVE}.{ROOT}.{tenant}.evt.>"]
    if role == Sender.AUTOPILOT:
        publish += _consume(tenant, "VT_EVENTS", "autopilot-effects")
        publish += _consume(tenant, "VT_EVENTS", "autopilot-answers")
        publish += _consume(tenant, "VT_EVENTS", "autopilot-fetches")
    if role in (Sender.AUTOPILOT, Sender.OPERATOR, Sender.CHATOPS, OBSERVER):
        publish += [f"{_API}.STREAM.INFO.VT_EVENTS", f"{_API}.DIRECT.GET.VT_EVENTS"]
        subscribe += [f"{LIVE}.{ROOT}.{tenant}.evt.>", f"{ROOT}.{tenant}.tel.>"]
    if role == Sender.OPERATOR:
        publish += [f"{_API}.STREAM.INFO.VT_DEAD", f"{_API}.DIRECT.GET.VT_DEAD"]
    if role != OBSERVER:
        publish.append(f"{ROOT}.{tenant}.tel.*.{role}.>")
    return Permissions(tuple(publish), tuple(subscribe))


def _conductor(tenant: str) -> list[str]:
    """Makes everything, publishes events, answers senders; may delete only the work queue, to make it anew."""
    publish = [f"{ROOT}.{tenant}.evt.>", *(f"{inbox_prefix(role)}.>" for role in ROLES)]
    for stream in STREAMS:
        publish += [f"{_API}.STREAM.{action}.{stream}" for action in ("CREATE", "UPDATE", "INFO", "MSG.GET")]
        publish += [f"{_API}.CONSUMER.INFO.{stream}.*", f"{_API}.CONSUMER.CREATE.{stream}.*"]
    publish += [f"{_API}.DIRECT.GET.VT_DEAD", f"{_API}.STREAM.DELETE.VT_COMMANDS"]
    return publish + _consume(tenant, "VT_COMMANDS", "conductor")


def _consume(tenant: str, stream: str, consumer: str) -> list[str]:
    """Bind to one durable consumer: look at it, pull, acknowledge, and put aside what is given up."""
    return [
        f"{_API}.CONSUMER.INFO.{stream}.{consumer}",
        f"{_API}.CONSUMER.MSG.NEXT.{stream}.{consumer}",
        f"$JS.ACK.{stream}.{consumer}.>",
        f"{ROOT}.{tenant}.dead.{consumer}",
    ]
