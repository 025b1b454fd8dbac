"""The tools that read and change a checkout. Commands run in the sandbox; files are touched by `Files` only."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Annotated

import anyio
import anyio.to_thread
from pydantic import Field

from agents.planning.files import Files, ToolError, ToolRefused
from agents.planning.tools import Nothing, Told, Tool
from agents.planning.untrusted import hidden
from schemas.values import Usage, Value
from workspace.checkout import CleanCheckout
from workspace.git import GitError
from workspace.sandbox.port import NO_NETWORK, Limits, Network, Result, Sandbox, SandboxUnavailable
from workspace.sandbox.watching import DiskWatch

LONGEST_COMMAND = 600.0
LINES = 400
_SEARCH_SECONDS = 30.0
BOUNDS = Limits(memory_bytes=2 << 30, processes=64, disk_bytes=512 << 20, output_bytes=200_000)
"""What one command may use; all commands of an attempt together may let its files grow by `disk_bytes`."""


class Where(Value):
    path: Annotated[str, Field(description="Relative to the repository's root; empty for all of it.")] = ""


class Part(Value):
    path: Annotated[str, Field(description="Relative to the repository's root.")]
    first_line: Annotated[int, Field(ge=1)] = 1
    lines: Annotated[int, Field(ge=1, le=2000)] = LINES


class Whole(Value):
    path: Annotated[str, Field(description="Relative to the repository's root; made if it is not there.")]
    text: Annotated[str, Field(description="The whole new content.")]


class OneFile(Value):
    path: str


class Replacement(Value):
    path: str
    old: Annotated[str, Field(min_length=1, description="Exactly as it stands in the file, once unless `every`.")]
    new: str
    every: bool = False


class Pattern(Value):
    pattern: Annotated[
        str, Field(min_length=1, max_length=500, description="An extended regular expression (grep -E).")
    ]
    path: str = ""


class Order(Value):
    command: Annotated[str, Field(min_length=1, max_length=20_000, description="Run by `sh -c` in the root.")]
    seconds: Annotated[float, Field(gt=0, le=LONGEST_COMMAND)] = 120.0


@dataclass(frozen=True, slots=True)
class Desk:
    """A checkout, the sandbox for commands in it, how many seconds are left, what one command may use, who counts
    what it used, and what it may reach."""

    checkout: CleanCheckout
    sandbox: Sandbox
    reserved: str
    left: Callable[[], float]
    bounds: Limits = BOUNDS
    used: Callable[[Usage], None] = lambda usage: None
    network: Network = NO_NETWORK
    disk: DiskWatch = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "disk", DiskWatch((self.checkout.tree,), self.bounds.disk_bytes))

    @property
    def files(self) -> Files:
        """Its files."""
        return Files(self.checkout.tree, self.reserved)

    def reading(self) -> tuple[Tool, ...]:
        """Tools that change nothing."""
        return (
            Tool("list_files", "List the files below a directory.", Where, self._list),
            Tool("read_file", "Read lines of a file.", Part, self._read),
            Tool("search", "Find lines in the files that match a regular expression.", Pattern, self._search),
        )

    def writing(self) -> tuple[Tool, ...]:
        """Tools that change files, and run commands."""
        return (
            Tool("write_file", "Write a whole file.", Whole, self._write),
            Tool("replace_text", "Replace a piece of text in a file.", Replacement, self._replace),
            Tool("delete_file", "Delete a file, or a symbolic link.", OneFile, self._delete),
            Tool(
                "run_command",
                f"Run a shell command in the root of the repository, contained: {self._reach}, limits on time, memory, "
                "processes and disk. Nothing it starts stays behind.",
                Order,
                self._run,
            ),
            Tool("show_changes", "Show what was changed so far, as a unified diff.", Nothing, self._changes),
        )

    @property
    def _reach(self) -> str:
        if not self.network.hosts:
            return "no network"
        return f"of the network by HTTP and HTTPS (HTTP_PROXY is set) {', '.join(self.network.hosts)} only"

    async def _list(self, where: Where) -> str:
        return "\n".join(self.files.listed(where.path)) or "there is no file"

    async def _read(self, part: Part) -> str:
        text = self.files.read(part.path)
        lines = text.splitlines()
        last = min(part.first_line - 1 + part.lines, len(lines))
        if part.first_line > max(len(lines), 1):
            raise ToolError(f"{part.path} has {len(lines)} lines")
        notes = [f"{part.path}, lines {part.first_line} to {last} of {len(lines)}"]
        if unseen := hidden(text):
            notes.append(f"{unseen} characters of the file are invisible and not shown")
        return "\n".join([f"({'; '.join(notes)})", *lines[part.first_line - 1 : last]])

    async def _write(self, whole: Whole) -> str:
        return f"{whole.path} has {self.files.write(whole.path, whole.text):,} bytes now"

    async def _replace(self, wanted: Replacement) -> str:
        text = self.files.read(wanted.path)
        old, new = wanted.old, wanted.new
        if "\r\n" in text and "\r\n" not in old:  # the model never sees carriage returns
            old, new = old.replace("\n", "\r\n"), new.replace("\n", "\r\n")
        found = text.count(old)
        if not found:
            unseen = hidden(text)
            why = f"; {unseen} characters of the file are invisible and were not shown" if unseen else ""
            raise ToolError(f"{wanted.path} does not hold that text{why}")
        if found > 1 and not wanted.every:
            raise ToolError(f"{wanted.path} holds that text {found} times: give more of it, or set `every`")
        self.files.write(wanted.path, text.replace(old, new))
        return f"{found} replaced in {wanted.path}"

    async def _delete(self, file: OneFile) -> str:
        self.files.delete(file.path)
        return f"{file.path} is deleted"

    async def _search(self, wanted: Pattern) -> str:
        place = self.files.relative(wanted.path)
        words = ["grep", "-rnEI", "--exclude-dir=.git", "-e", wanted.pattern, "--", place]
        result = await self._contained(words, _SEARCH_SECONDS)
        if result.exit_code == 1:
            return "nothing matches"
        if result.exit_code != 0:
            raise ToolError(f"the search ended with {result.summary}: {result.output[:500]}")
        return result.output

    async def _run(self, order: Order) -> str | Told:
        result = await self._contained(["sh", "-c", order.command], order.seconds, self.network)
        notes = [result.summary, *(f"network: {each}" for each in result.contacts if each.outcome != "reached")]
        text = f"({'; '.join(notes)})\n{result.output}"
        if result.refused:
            why = f"the command made {', '.join(result.refused)}, which is protected: removed again"
            raise ToolRefused(why, result.contacts)
        if result.stopped:
            raise ToolError(text, result.contacts)
        return Told(text, result.contacts) if result.contacts else text

    async def _changes(self, nothing: Nothing) -> str:
        return (await self.diff()).decode("utf-8", "replace") or "nothing is changed"

    async def diff(self) -> bytes:
        """What was changed, as a patch. Raises ToolError."""
        try:
            await anyio.to_thread.run_sync(self.checkout.take_in)
            return await anyio.to_thread.run_sync(self.checkout.diff)
        except GitError as problem:
            raise ToolError(f"git cannot read the changes: {problem}") from problem

    async def _contained(self, words: Sequence[str], seconds: float, network: Network = NO_NETWORK) -> Result:
        """Run it; when the attempt is cancelled the command is ended at once."""
        stop = threading.Event()
        limits = replace(self.bounds, seconds=max(1.0, min(seconds, self.left())))
        tree = self.checkout.tree
        run = partial(
            self.sandbox.run, words, cwd=tree, writable=(tree,), limits=limits, network=network, stop=stop.is_set
        )

        async def watch() -> None:
            try:
                await anyio.sleep_forever()
            finally:
                stop.set()

        if self.disk.over():
            raise ToolRefused(
                f"the files grew by more than {self.bounds.disk_bytes:,} bytes: no command is run until they do not"
            )
        problem: SandboxUnavailable | None = None
        async with anyio.create_task_group() as beside:
            beside.start_soon(watch)
            try:
                result = await anyio.to_thread.run_sync(run)
                self.used(Usage(wall_seconds=result.seconds))
                return result
            except SandboxUnavailable as found:
                problem = found  # raised outside: a task group would wrap it
            finally:
                beside.cancel_scope.cancel()
        raise ToolRefused(f"no command is run here: {problem}")
