"""A patch on a session's branch: the branch's own files are always those of the base with the newest patch applied."""

from __future__ import annotations

import os
from collections.abc import Sequence

from workspace.changes import read_changes, refusals
from workspace.git import GitError, Repository, run_git
from workspace.scratch import scratch_folder


def patched_tree(repository: Repository, base: str, tip: str, patch: bytes, keep: str) -> str:
    """A tree: that of `base` with `patch`, and with what `tip` has below the folder `keep`. Nothing is checked out.

    So a second attempt's patch takes the place of the first one's. Raises GitError when the patch does not apply or
    does what no change may do: whoever made it was not believed.
    """
    with scratch_folder() as folder:
        index = {"GIT_INDEX_FILE": os.fspath(folder / "index")}

        def git(*arguments: str, data: bytes | None = None, accept: Sequence[int] = (0,)) -> str:
            return run_git(repository.path, *arguments, data=data, environment=index, accept=accept)

        git("read-tree", base)
        git("apply", "--cached", "--whitespace=nowarn", "-", data=patch)
        tree = git("write-tree")
        if why := refusals(read_changes(git, base, tree), keep):
            raise GitError(f"the patch may not be applied: {'; '.join(why[:5])}", "change the patch, and try again")
        entries = git("ls-tree", "-r", "-z", tip, "--", f"{keep}/").split("\0")
        lines = [_as_index_line(entry) for entry in entries if entry]
        listing = "".join(f"{line}\0" for line in lines).encode("utf-8", "surrogateescape")
        git("update-index", "-z", "--add", "--index-info", data=listing)
        return git("write-tree")


def _as_index_line(entry: str) -> str:
    """`MODE TYPE SHA<tab>PATH` as `MODE SHA<tab>PATH`."""
    what, _, path = entry.partition("\t")
    mode, _, sha = what.split(" ")
    return f"{mode} {sha}\t{path}"
