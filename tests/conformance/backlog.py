"""What every backlog source must do, written once: subclass `BacklogConformance` and give it a fixture `world`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from autopilot.select import select
from autopilot.sources.port import Backlog, BacklogError, Snapshot
from schemas.policy import Policy
from schemas.values import RiskLevel
from tests.conformance.store import NOON

TASK = ("Task", "auto")


class World(Protocol):
    """Where a source's tickets are written by people."""

    source: Backlog

    def write(self, title: str, fields: Mapping[str, str], text: str = "Why.", labels: tuple[str, ...] = TASK) -> int:
        """A new ticket with fields in YAML; its number."""
        ...

    def edit(self, number: int, fields: Mapping[str, str], text: str) -> None:
        """Change a ticket's fields and text, not its title or labels."""
        ...

    def close(self, number: int) -> None:
        """Close a ticket."""
        ...

    def lose(self) -> None:
        """Take the whole backlog away."""
        ...


async def _order(source: Backlog) -> tuple[int, ...]:
    return select(await source.snapshot(), Policy(), {}, NOON).order


class BacklogConformance:
    """The port's promises."""

    async def test_what_people_write_is_a_ticket(self, world: World) -> None:
        number = world.write("Sort wines", {"data": "data/wine.csv", "target": "cultivar", "risk": "medium"})
        snapshot = await world.source.snapshot()
        entry = snapshot.entries[number]
        assert (entry.ticket.id, entry.ticket.title) == (number, "Sort wines")
        assert (entry.ticket.data, entry.ticket.target, entry.ticket.risk) == (
            "data/wine.csv", "cultivar", RiskLevel.MEDIUM,
        )  # fmt: skip
        assert entry.ticket.body == "Why."
        assert set(entry.ticket.labels) == set(TASK)
        assert entry.ticket.state == "open"
        assert entry.edited.tzinfo is not None
        assert snapshot.backlog == world.source.name
        assert snapshot.unreadable == {}

    async def test_an_empty_backlog_says_how_to_fill_it(self, world: World) -> None:
        snapshot = await world.source.snapshot()
        assert snapshot.entries == {}
        assert "docs/tickets.md" in snapshot.hint
        world.write("Sort wines", {})
        assert (await world.source.snapshot()).hint == ""

    async def test_reading_twice_gives_the_same(self, world: World) -> None:
        world.write("First", {"data": "a.csv"})
        world.write("Second", {"data": "b.csv"})
        first = await world.source.snapshot()
        assert await world.source.snapshot() == first

    async def test_a_ticket_that_cannot_be_read_is_named_with_its_field_and_hides_nothing(self, world: World) -> None:
        bad = world.write("Bad", {"risk": "huge"})
        good = world.write("Good", {"risk": "low"})
        snapshot = await world.source.snapshot()
        assert list(snapshot.entries) == [good]
        assert len(snapshot.unreadable) == 1
        (name, reason), = snapshot.unreadable.items()  # fmt: skip
        assert str(bad) in name
        assert "`risk` is 'huge'" in reason
        world.edit(bad, {"risk": "high"}, "Now good.")
        snapshot = await world.source.snapshot()
        assert (sorted(snapshot.entries), snapshot.unreadable) == (sorted([bad, good]), {})

    async def test_only_the_system_writes_some_fields(self, world: World) -> None:
        for field, value in (("origin", "github:a/b"), ("requester_id", "1"), ("checkout", "x"), ("body", "x")):
            world.write(f"With {field}", {field: value})
        snapshot = await world.source.snapshot()
        assert snapshot.entries == {}
        assert len(snapshot.unreadable) == 4

    async def test_an_edit_changes_the_digest(self, world: World) -> None:
        number = world.write("Sort wines", {"data": "a.csv"})
        first: Snapshot = await world.source.snapshot()
        world.edit(number, {"data": "a.csv"}, "Other words.")
        second = await world.source.snapshot()
        assert first.digests[number] != second.digests[number]
        assert len(second.digests[number]) == 64

    async def test_blockers_and_priorities_order_the_tickets(self, world: World) -> None:
        first = world.write("First", {})
        second = world.write("Second", {"blocked_by": f"[{first}]"})
        urgent = world.write("Urgent", {}, labels=(*TASK, "now"))
        world.write("Not for us", {}, labels=("Task",))
        assert await _order(world.source) == (urgent, first)
        world.close(first)
        assert await _order(world.source) == (urgent, second)

    async def test_a_backlog_that_is_not_there_is_an_error_that_names_it(self, world: World) -> None:
        world.lose()
        try:
            await world.source.snapshot()
        except BacklogError as problem:
            assert world.source.name.partition(":")[2] in str(problem)  # noqa: PT017
        else:
            raise AssertionError("a backlog that is gone was read")
