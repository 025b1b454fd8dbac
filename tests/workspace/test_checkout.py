"""Clean checkouts and patches on a session's branch: git's own rules hold, and what no change may do is refused."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tests.workspace.conftest import shell
from workspace.checkout import CleanCheckout
from workspace.git import EFFECT, GitError, Repository
from workspace.worktree import Worktree

WHEN = datetime(2026, 11, 21, 9, tzinfo=UTC)
FOLDER = "tickets/delivery_7"


def patch_of(repository: Repository, **files: str) -> bytes:
    """A patch that writes files; the repository is left as it was."""
    for name, text in files.items():
        place = repository.path / name.replace("__", "/").replace("_dot_", ".")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)
    shell(repository.path, "add", "--all")
    text = repository.git("diff", "--cached", "--binary")
    repository.git("reset", "--hard", "--quiet")
    return (text + "\n").encode()


@pytest.fixture
def tree(repository: Repository, tmp_path: Path) -> Worktree:
    return Worktree.create(repository, tmp_path / "worktree", "phase/delivery_7-abc", repository.head_commit())


def change(tree: Worktree, patch: bytes, effect: str) -> str:
    return tree.change(patch, FOLDER, "Change it", WHEN, {EFFECT: effect})


def files(tree: Worktree, commit: str) -> dict[str, str]:
    names = tree.repository.git("ls-tree", "-r", "--name-only", commit).splitlines()
    return {name: tree.repository.git("show", f"{commit}:{name}") for name in names}


def test_a_checkout_is_apart_from_the_repository(repository: Repository, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    shell(repository.path, "config", "filter.bad.smudge", f"touch {marker}; cat")
    (repository.path / ".gitattributes").write_text("* filter=bad\n")
    shell(repository.path, "add", ".")
    shell(repository.path, "-c", "core.hooksPath=/dev/null", "commit", "--quiet", "-m", "Filters")
    marker.unlink(missing_ok=True)
    before = shell(repository.path, "for-each-ref"), sorted(os.listdir(repository.path / ".git"))
    checkout = CleanCheckout.create(repository.path, repository.head_commit(), tmp_path / "clean")
    assert sorted(path.name for path in checkout.tree.iterdir()) == [".gitattributes", "README", "src"]
    (checkout.tree / "README").write_text("bye\n")
    (checkout.tree / "new").write_text("new\n")
    assert checkout.changes() == ()
    checkout.take_in()
    assert [(each.path, each.status, each.added) for each in checkout.changes()] == [
        ("README", "M", 1),
        ("new", "A", 1),
    ]
    assert (shell(repository.path, "for-each-ref"), sorted(os.listdir(repository.path / ".git"))) == before
    assert not marker.exists(), "no filter of the repository was run"
    assert (checkout.read("README"), checkout.read("README", base=True)) == ("bye", "hello")
    assert (checkout.read("new"), checkout.read("new", base=True), checkout.read("no")) == ("new", None, None)
    assert checkout.files() == (".gitattributes", "README", "new", "src/a.py")
    assert "new" not in checkout.files(base=True)


def test_its_diff_gives_the_same_files_again(repository: Repository, tmp_path: Path) -> None:
    one = CleanCheckout.create(repository.path, repository.head_commit(), tmp_path / "one")
    (one.tree / "README").write_bytes(b"caf\xe9 \r\n no newline")
    (one.tree / "blob").write_bytes(bytes(range(256)))
    (one.tree / "src" / "a.py").unlink()
    (one.tree / "run").write_text("#!/bin/sh\n")
    (one.tree / "run").chmod(0o755)
    one.take_in()
    two = CleanCheckout.create(repository.path, repository.head_commit(), tmp_path / "two")
    two.apply(one.diff())
    assert two.changes() == one.changes()
    assert (two.tree / "README").read_bytes() == b"caf\xe9 \r\n no newline"
    assert (two.tree / "blob").read_bytes() == bytes(range(256))
    assert os.access(two.tree / "run", os.X_OK)
    assert not (two.tree / "src" / "a.py").exists()


def test_a_commit_that_is_not_there_is_named(repository: Repository, tmp_path: Path) -> None:
    with pytest.raises(GitError, match="lacks the commit 1111"):
        CleanCheckout.create(repository.path, "1" * 40, tmp_path / "clean")


def test_the_branch_is_the_base_with_the_newest_patch(tree: Worktree) -> None:
    tree.commit({f"{FOLDER}/checklist.md": b"- [x] all\n"}, "scope", WHEN, {EFFECT: "e1"}, below=FOLDER)
    first = change(tree, patch_of(tree.repository, README="one\n", extra="x\n"), "e2")
    assert files(tree, first) == {
        "README": "one", "extra": "x", "src/a.py": "a = 1", f"{FOLDER}/checklist.md": "- [x] all",
    }  # fmt: skip
    assert (tree.directory / "extra").read_text() == "x\n"
    assert change(tree, b"not looked at again", "e2") == first, "the same effect is carried out once"
    second = change(tree, patch_of(tree.repository, src__a_dot_py="a = 2\n"), "e3")
    assert files(tree, second) == {"README": "hello", "src/a.py": "a = 2", f"{FOLDER}/checklist.md": "- [x] all"}
    assert change(tree, patch_of(tree.repository, src__a_dot_py="a = 2\n"), "e4") == second, "nothing is left to do"
    assert tree.repository.git("rev-list", "--count", f"{tree.base}..{second}") == "3"


@pytest.mark.parametrize(
    ("patch", "says"),
    [
        ({"_dot_github__ci_dot_yml": "on: push\n"}, r"'.github/ci.yml' is protected"),
        ({"tickets__delivery_7__checklist_dot_md": "- [x]\n"}, "which the train writes"),
    ],
)
def test_the_executor_checks_for_itself(tree: Worktree, patch: dict[str, str], says: str) -> None:
    before = tree.head()
    with pytest.raises(GitError, match=says):
        change(tree, patch_of(tree.repository, **patch), "e1")
    with pytest.raises(GitError, match="git apply"):
        change(tree, b"diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1 +1 @@\n-a\n+b\n", "e1")
    with pytest.raises(GitError, match="git apply"):
        change(
            tree,
            b"diff --git a/../x b/../x\nnew file mode 100644\n--- /dev/null\n+++ b/../x\n@@ -0,0 +1 @@\n+b\n",
            "e1",
        )
    assert tree.head() == before
