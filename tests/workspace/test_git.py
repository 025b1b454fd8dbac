"""Branches, commits and checkouts on a real git: the same again after a crash, and nothing of the user's lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

import workspace.git as module
from tests.workspace.conftest import shell
from workspace.git import EFFECT, GitError, Identity, Repository, branch_name, git_version, run_git, ticket_folder
from workspace.worktree import Worktree

WHEN = datetime(2026, 11, 21, 9, 0, 0, tzinfo=UTC)
BRANCH = "phase/delivery_12-k7m2p"
FILES = {"tickets/delivery_12/ACTIVE_SESSION.md": b"one\n", "tickets/delivery_12/artifacts/a.bin": b"\x00\r\n\xff"}


@pytest.fixture
def tree(repository: Repository, tmp_path: Path) -> Worktree:
    return Worktree.create(repository, tmp_path / "trees" / "12", BRANCH, repository.head_commit())


def commit(
    tree: Worktree, effect: str = "e1", files: dict[str, bytes] | None = None, message: str = "Phase done"
) -> str:
    return tree.commit(FILES if files is None else files, message, WHEN, {EFFECT: effect, "Value-Train-Session": "s1"})


# --- the user's repository -------------------------------------------------------------------------------------------


def test_what_a_repository_tells(repository: Repository) -> None:
    assert repository.is_repository()
    assert repository.head_commit() == shell(repository.path, "rev-parse", "HEAD")
    assert repository.branches() == {"main": repository.head_commit()}
    assert repository.identity() == Identity("Ada", "ada@example.org")
    assert repository.dirty_files() == []
    assert repository.in_progress() is None
    assert repository.has_commit(repository.head_commit())
    assert not repository.has_commit("0" * 40)
    assert git_version() >= (2, 30)


def test_dirty_files_are_named(repository: Repository) -> None:
    (repository.path / "README").write_text("changed")
    (repository.path / "src" / "a.py").unlink()
    (repository.path / "new file").write_text("staged")
    (repository.path / "untracked").write_text("no matter")
    shell(repository.path, "add", "new file")
    assert repository.dirty_files() == ["README", "new file", "src/a.py"]


def test_a_merge_or_rebase_under_way_is_named(repository: Repository) -> None:
    for branch, text in (("other", "theirs\n"), ("main", "ours\n")):
        shell(repository.path, "checkout", "-q", "-B" if branch == "other" else "-q", branch)
        (repository.path / "README").write_text(text)
        shell(repository.path, "-c", "core.hooksPath=/dev/null", "commit", "-qam", text)
        if branch == "other":
            shell(repository.path, "checkout", "-q", "main")
    for command in ("merge", "rebase", "cherry-pick"):
        subprocess.run(
            ["git", "-c", "core.hooksPath=/dev/null", command, "other"], cwd=repository.path, capture_output=True
        )
        assert repository.in_progress() == command
        shell(repository.path, "-c", "core.hooksPath=/dev/null", command, "--abort")
    (repository.path.parent / "hook-ran").unlink(missing_ok=True)  # our own plain git above


def test_a_directory_without_repository(tmp_path: Path) -> None:
    assert not Repository(tmp_path).is_repository()
    assert not Repository(tmp_path / "missing").is_repository()
    with pytest.raises(GitError, match=r"not a git repository.*git init"):
        Repository(tmp_path).head_commit()


def test_a_repository_without_commits(tmp_path: Path) -> None:
    shell(tmp_path, "init", "--quiet")
    assert Repository(tmp_path).is_repository()
    with pytest.raises(GitError, match=r"has no commit yet; make a first one"):
        Repository(tmp_path).head_commit()


def test_git_missing_is_named(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(GitError, match=r"git is not installed.*install git 2\.30"):
        repository.head_commit()


def test_inherited_git_variables_do_not_redirect_us(repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = repository.head_commit()
    monkeypatch.setenv("GIT_DIR", "/nonexistent")
    monkeypatch.setenv("GIT_AUTHOR_NAME", "Somebody Else")
    assert repository.head_commit() == expected


def test_a_call_that_takes_too_long_is_ended(repository: Repository) -> None:
    shell(repository.path, "config", "alias.wait", "!sleep 60")
    with pytest.raises(GitError, match=r"did not end within 0\.2 s"):
        run_git(repository.path, "wait", seconds=0.2)


# --- commits ---------------------------------------------------------------------------------------------------------


def test_a_commit_holds_exactly_the_files_and_the_rest_as_it_was(tree: Worktree) -> None:
    sha = commit(tree)
    listed = shell(tree.directory, "ls-tree", "-r", "--name-only", sha).splitlines()
    assert listed == ["README", "src/a.py", *sorted(FILES)]
    for path, content in FILES.items():
        assert (tree.directory / path).read_bytes() == content
        blob = subprocess.run(["git", "show", f"{sha}:{path}"], cwd=tree.directory, capture_output=True, check=True)
        assert blob.stdout == content
    assert tree.head() == sha
    assert shell(tree.directory, "status", "--porcelain") == ""
    assert shell(tree.directory, "log", "-1", "--format=%an <%ae> %cn <%ce> %ad %cd", "--date=iso") == (
        "AgenticOps Value Train <value-train@localhost> AgenticOps Value Train <value-train@localhost> "
        "2026-11-21 09:00:00 +0000 2026-11-21 09:00:00 +0000"
    )
    assert shell(tree.directory, "log", "-1", "--format=%(trailers)") == f"{EFFECT}: e1\nValue-Train-Session: s1"


def test_commits_come_out_the_same_in_any_clone_and_zone(tree: Worktree, tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    shell(tmp_path, "clone", "--quiet", os.fspath(tree.repository.path), os.fspath(clone))
    shell(clone, "config", "user.name", "Bob")
    shell(clone, "config", "core.autocrlf", "true")
    other = Worktree.create(Repository(clone), tmp_path / "trees" / "other", BRANCH, tree.base)
    here = WHEN.astimezone(timezone(timedelta(hours=5)))
    trailers = {EFFECT: "e1", "Value-Train-Session": "s1"}
    assert other.commit(dict(reversed(FILES.items())), "Phase done", here, trailers) == commit(tree)


def test_the_same_effect_is_committed_once(tree: Worktree) -> None:
    first = commit(tree)
    second = commit(tree, "e2", {"tickets/delivery_12/b": b"b"})
    assert commit(tree) == first
    assert commit(tree, "e1", {"tickets/delivery_12/c": b"other"}) == first
    assert tree.head() == second
    assert tree.find("e2") == second
    assert tree.find("e") is None
    assert tree.find("") is None


def test_an_effect_named_in_free_text_or_by_somebody_else_does_not_count(tree: Worktree) -> None:
    commit(tree, "e1", message=f"About {EFFECT}: e9\n\nand {EFFECT}: e9 again")
    assert tree.find("e9") is None
    shell(tree.directory, "-c", "core.hooksPath=/dev/null", "commit", "-q", "--allow-empty", "-m", f"x\n\n{EFFECT}: e9")
    assert tree.find("e9") is None
    forged = commit(tree, "e1\nValue-Train-Effect: e9", {"x": b"x"})
    assert tree.find("e9") is None
    assert tree.head() == forged


def test_files_that_left_the_projection_are_removed(tree: Worktree) -> None:
    commit(tree)
    folder = ticket_folder(12)
    sha = tree.commit({f"{folder}/new": b"n"}, "Next", WHEN, {EFFECT: "e2"}, below=folder)
    assert shell(tree.directory, "ls-tree", "-r", "--name-only", sha).splitlines() == [
        "README", "src/a.py", f"{folder}/new",
    ]  # fmt: skip
    assert not (tree.directory / folder / "artifacts").exists()


def test_an_empty_change_is_still_a_commit(tree: Worktree) -> None:
    first = commit(tree)
    assert commit(tree, "e2") != first


@pytest.mark.parametrize(
    "path", ["", "/etc/passwd", "../x", "a/../b", "a//b", ".git/config", "a/.GIT/b", "a\\b", "a\nb", "."]
)
def test_unsafe_paths_are_refused(tree: Worktree, path: str) -> None:
    with pytest.raises(GitError, match="not a path inside the repository"):
        commit(tree, files={path: b"x"})
    assert tree.head() == tree.base


def test_unusual_but_safe_names_survive(tree: Worktree) -> None:
    names = {"ein Name mit ä": b"1", "tab.d/.gitignore": b"*\n", "-dash": b"2", "a'b\"c": b"3"}
    commit(tree, files=names)
    for name, content in names.items():
        assert (tree.directory / name).read_bytes() == content


def test_a_folder_where_a_file_is_is_an_error_and_changes_nothing(tree: Worktree) -> None:
    with pytest.raises(GitError, match="README"):
        commit(tree, files={"README/x": b"x"})
    assert tree.head() == tree.base


def test_a_branch_somebody_moved_meanwhile_is_not_overwritten(tree: Worktree, monkeypatch: pytest.MonkeyPatch) -> None:
    commit(tree)
    stale = tree.base
    monkeypatch.setattr(Worktree, "head", lambda self: stale)
    with pytest.raises(GitError, match="phase/delivery_12"):
        commit(tree, "e2")


def test_a_full_disk_is_named(tree: Worktree, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tree.directory.parent / "bin"
    fake.mkdir()
    (fake / "git").write_text("#!/bin/sh\necho 'fatal: unable to write file: No space left on device' >&2\nexit 128\n")
    (fake / "git").chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake}:{os.environ['PATH']}")
    with pytest.raises(GitError, match="No space left on device; free some space"):
        commit(tree)


# --- rollback --------------------------------------------------------------------------------------------------------


def test_restore_brings_files_back_and_keeps_history(tree: Worktree) -> None:
    first = commit(tree)
    second = commit(tree, "e2", {"tickets/delivery_12/b": b"b", "README": b"changed"})
    back = tree.restore(first, "Rollback", WHEN, {EFFECT: "e3"})
    assert shell(tree.directory, "rev-parse", f"{back}^") == second
    assert shell(tree.directory, "rev-parse", f"{back}^{{tree}}") == shell(
        tree.directory, "rev-parse", f"{first}^{{tree}}"
    )
    assert (tree.directory / "README").read_text() == "hello\n"
    assert not (tree.directory / "tickets/delivery_12/b").exists()
    assert tree.restore(first, "Rollback", WHEN, {EFFECT: "e3"}) == back
    assert tree.head() == back
    start = tree.restore(tree.base, "Rollback", WHEN, {EFFECT: "e4"})
    assert shell(tree.directory, "diff", "--stat", tree.base, start) == ""


def test_restore_to_a_strange_commit_is_refused(tree: Worktree) -> None:
    commit(tree)
    with pytest.raises(GitError, match="is not on the branch"):
        tree.restore("0" * 40, "Rollback", WHEN, {EFFECT: "e3"})


# --- the checkout ----------------------------------------------------------------------------------------------------


def test_create_is_repeatable_and_keeps_edits(tree: Worktree) -> None:
    sha = commit(tree)
    (tree.directory / "tickets/delivery_12/ACTIVE_SESSION.md").write_text("edited")
    again = Worktree.create(tree.repository, tree.directory, BRANCH, tree.base)
    assert again.head() == sha
    assert again.edited("tickets/delivery_12") == ["tickets/delivery_12/ACTIVE_SESSION.md"]


def test_edits_by_hand_are_named(tree: Worktree) -> None:
    commit(tree)
    folder = tree.directory / "tickets/delivery_12"
    assert tree.edited("tickets/delivery_12") == []
    (folder / "ACTIVE_SESSION.md").unlink()
    (folder / "artifacts/a.bin").write_bytes(b"x")
    (folder / "neu ä").write_text("x")
    (tree.directory / "README").write_text("elsewhere")
    assert tree.edited("tickets/delivery_12") == [
        "tickets/delivery_12/ACTIVE_SESSION.md", "tickets/delivery_12/artifacts/a.bin", "tickets/delivery_12/neu ä",
    ]  # fmt: skip


def test_the_users_checkout_and_branch_stay_as_they_are(tree: Worktree) -> None:
    (tree.repository.path / "README").write_text("being edited")
    before = tree.repository.branches("main")
    commit(tree)
    assert (tree.repository.path / "README").read_text() == "being edited"
    assert tree.repository.branches("main") == before
    assert tree.repository.dirty_files() == ["README"]


def test_a_branch_with_other_content_is_refused_by_name(repository: Repository, tmp_path: Path) -> None:
    base = repository.head_commit()
    quiet = ("-c", "core.hooksPath=/dev/null")
    shell(repository.path, *quiet, "checkout", "-q", "-b", BRANCH)
    shell(repository.path, *quiet, "commit", "-q", "--allow-empty", "-m", "My own work")
    shell(repository.path, *quiet, "checkout", "-q", "main")
    with pytest.raises(GitError, match=r"phase/delivery_12-k7m2p already exists.*by Ada: My own work.*git branch -m"):
        Worktree.create(repository, tmp_path / "t", BRANCH, base)
    unrelated = shell(repository.path, "commit-tree", "HEAD^{tree}", "-m", "unrelated")
    shell(repository.path, *quiet, "branch", "-f", BRANCH, unrelated)
    with pytest.raises(GitError, match="already exists"):
        Worktree.create(repository, tmp_path / "t", BRANCH, base)
    assert not (tmp_path / "t").exists()


def test_a_directory_in_the_way_is_left_alone(repository: Repository, tmp_path: Path) -> None:
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "thesis.txt").write_text("precious")
    with pytest.raises(GitError, match="is in the way"):
        Worktree.create(repository, tmp_path / "t", BRANCH, repository.head_commit())
    assert (tmp_path / "t" / "thesis.txt").read_text() == "precious"


def test_a_branch_checked_out_elsewhere_is_named(tree: Worktree, tmp_path: Path) -> None:
    with pytest.raises(GitError, match=r"cannot be checked out in .*trees/12"):
        Worktree.create(tree.repository, tmp_path / "second", BRANCH, tree.base)


def test_a_branch_that_blocks_the_name_is_named(repository: Repository, tmp_path: Path) -> None:
    shell(repository.path, "-c", "core.hooksPath=/dev/null", "branch", "phase")
    with pytest.raises(GitError, match=r"refs/heads/phase.*rename the branch that is in the way"):
        Worktree.create(repository, tmp_path / "t", BRANCH, repository.head_commit())


def test_a_missing_base_commit_is_named(repository: Repository, tmp_path: Path) -> None:
    with pytest.raises(GitError, match="lacks the base commit 000000000000"):
        Worktree.create(repository, tmp_path / "t", BRANCH, "0" * 40)


def test_a_deleted_branch_is_named(tree: Worktree) -> None:
    commit(tree)
    run_git(tree.repository.path, "update-ref", "-d", f"refs/heads/{BRANCH}")
    with pytest.raises(GitError, match="is gone"):
        tree.head()


@pytest.mark.parametrize(
    "damage", ["checkout deleted", "half made", "never filled", "admin gone", "head lost", "marker empty"]
)
def test_a_checkout_a_crash_left_behind_is_made_anew(tree: Worktree, damage: str) -> None:
    sha = commit(tree)
    admin = Path(shell(tree.directory, "rev-parse", "--absolute-git-dir"))
    if damage == "checkout deleted":
        subprocess.run(["rm", "-r", tree.directory], check=True)
    elif damage == "half made":
        (admin / "locked").write_text("initializing")
        (tree.directory / "README").unlink()
    elif damage == "never filled":
        (admin / "index").unlink()
        (tree.directory / "README").unlink()
    elif damage == "admin gone":
        subprocess.run(["rm", "-r", admin], check=True)
    elif damage == "head lost":
        (admin / "HEAD").write_text("0" * 40 + "\n")
    else:
        (tree.directory / ".git").write_text("")
    again = Worktree.create(tree.repository, tree.directory, BRANCH, tree.base)
    assert again.head() == sha
    assert shell(again.directory, "symbolic-ref", "HEAD") == f"refs/heads/{BRANCH}"
    assert shell(again.directory, "status", "--porcelain") == ""
    assert (again.directory / "tickets/delivery_12/artifacts/a.bin").read_bytes() == FILES[
        "tickets/delivery_12/artifacts/a.bin"
    ]


@pytest.mark.parametrize("lock", ["index", "branch"])
def test_a_stale_lock_of_ours_is_overcome(tree: Worktree, monkeypatch: pytest.MonkeyPatch, lock: str) -> None:
    monkeypatch.setattr(module, "_STALE_SECONDS", 0.1)
    admin = Path(shell(tree.directory, "rev-parse", "--absolute-git-dir"))
    path = admin / "index.lock" if lock == "index" else tree.repository.git_directory() / f"refs/heads/{BRANCH}.lock"
    path.write_text("")
    sha = commit(tree)
    assert tree.head() == sha
    assert shell(tree.directory, "status", "--porcelain") == ""
    assert not path.exists()


def test_a_lock_of_the_users_is_never_removed(tree: Worktree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_STALE_SECONDS", 0.1)
    lock = tree.repository.path / ".git" / "index.lock"
    lock.write_text("")
    commit(tree)  # needs no lock of the user's
    with pytest.raises(GitError, match=r"index\.lock.*if no other git is running there, delete"):
        run_git(tree.repository.path, "add", "README")
    assert lock.exists()


def test_a_lock_at_the_server_is_never_removed(tree: Worktree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its words come by git's standard error as ours do, and name a path that may exist here, too."""
    monkeypatch.setattr(module, "_STALE_SECONDS", 0.1)
    commit(tree)
    server = tmp_path / "server.git"
    run_git(tmp_path, "init", "--bare", "-q", str(server))
    lock = server / f"refs/heads/{BRANCH}.lock"
    lock.parent.mkdir(parents=True)
    lock.write_text("")
    with pytest.raises(GitError, match=r"\.lock"):
        run_git(tree.repository.path, "push", server.as_uri(), f"{BRANCH}:{BRANCH}")
    assert lock.exists()


def test_the_branch_is_ahead_of_its_checkout_after_a_crash(tree: Worktree, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Worktree, "_refresh", lambda self: None)
    sha = commit(tree)
    assert not (tree.directory / "tickets").exists()
    monkeypatch.undo()
    assert commit(tree) == sha
    assert (tree.directory / "tickets/delivery_12/ACTIVE_SESSION.md").read_bytes() == b"one\n"


def test_removing_keeps_the_branch(tree: Worktree) -> None:
    sha = commit(tree)
    tree.remove()
    tree.remove()
    assert not tree.directory.exists()
    assert tree.repository.branches(BRANCH) == {BRANCH: sha}
    assert Worktree.create(tree.repository, tree.directory, BRANCH, tree.base).head() == sha


def test_kill_9_at_any_moment_then_again_gives_the_same_commits(tree: Worktree, tmp_path: Path) -> None:
    """A process that commits five effects is killed again and again; what it leaves always leads to the same end."""
    program = f"""
from datetime import UTC, datetime
from pathlib import Path
import workspace.git as module
from workspace.git import EFFECT, Repository
from workspace.worktree import Worktree
module._STALE_SECONDS = 0.05
tree = Worktree.create(Repository(Path({os.fspath(tree.repository.path)!r})), Path({os.fspath(tree.directory)!r}),
                       {BRANCH!r}, {tree.base!r})
for n in range(5):
    moment = datetime(2026, 11, 21, tzinfo=UTC)
    print(tree.commit({{f"f{{n}}": b"x" * n}}, f"Commit {{n}}", moment, {{EFFECT: f"k{{n}}"}}))
"""
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", program]
    for attempt in range(8):
        process = subprocess.Popen(command, cwd=root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 0.12 + 0.05 * attempt
        while process.poll() is None and time.monotonic() < deadline:
            os.sched_yield()
        process.send_signal(signal.SIGKILL)
        process.wait()
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    shas = done.stdout.split()
    assert shell(tree.repository.path, "rev-list", "--reverse", f"{tree.base}..{BRANCH}").split() == shas
    fresh = tmp_path / "fresh"
    shell(tmp_path, "clone", "--quiet", os.fspath(tree.repository.path), os.fspath(fresh))
    other = Worktree.create(Repository(fresh), tmp_path / "t2", BRANCH, tree.base)
    moment = datetime(2026, 11, 21, tzinfo=UTC)
    assert [other.commit({f"f{n}": b"x" * n}, f"Commit {n}", moment, {EFFECT: f"k{n}"}) for n in range(5)] == shas


# --- names -----------------------------------------------------------------------------------------------------------


def test_names() -> None:
    assert branch_name(12, "k7m2p") == BRANCH
    assert ticket_folder(12) == "tickets/delivery_12"
    for token in ("", "a/b", "a b", "-x", "a..b", "x\n"):
        with pytest.raises(ValueError, match="letters, digits and hyphens"):
            branch_name(1, token)


def test_a_branch_can_go_on_from_a_commit_of_another_one_of_ours(tree: Worktree, tmp_path: Path) -> None:
    start = commit(tree)
    ahead = commit(tree, "e2", {"tickets/delivery_12/later": b"later\n"})
    place = tmp_path / "trees" / "fork"
    fork = Worktree.create(tree.repository, place, "phase/delivery_12-fork1", tree.base, start)
    assert (fork.head(), tree.head()) == (start, ahead)
    own = commit(fork, "e3", {"tickets/delivery_12/own": b"own\n"})
    again = Worktree.create(tree.repository, place, "phase/delivery_12-fork1", tree.base, start)
    assert (again.head(), again.find("e3"), again.find("e2")) == (own, own, None)
    assert not (place / "tickets" / "delivery_12" / "later").exists()
    assert tree.head() == ahead
    with pytest.raises(GitError, match="lacks the base commit 000000000000"):
        Worktree.create(tree.repository, tmp_path / "t", "phase/delivery_12-fork2", tree.base, "0" * 40)
