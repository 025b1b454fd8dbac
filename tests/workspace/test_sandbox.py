"""The sandbox holds: real bubblewrap and real podman, and commands that try to get out, stay behind or use up all."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.workspace.bwrap import needs_bubblewrap
from tests.workspace.podman import needs_podman
from tests.workspace.test_children import processes
from workspace.protected import is_protected
from workspace.sandbox import cgroup
from workspace.sandbox.bubblewrap import Bubblewrap
from workspace.sandbox.opening import open_sandbox
from workspace.sandbox.port import Limits, Result, Sandbox, SandboxUnavailable

ROOT = Path(__file__).resolve().parents[2]
SECRET = "hunter2-" + uuid.uuid4().hex
SMALL = Limits(seconds=60, memory_bytes=256 << 20, processes=40, file_bytes=8 << 20, disk_bytes=16 << 20)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A checkout with something protected in it."""
    place = tmp_path / "tree"
    (place / ".github" / "workflows").mkdir(parents=True)
    (place / ".github" / "workflows" / "ci.yml").write_text("on: push\n")
    (place / "docs").mkdir()
    (place / "docs" / "AGENTS.md").write_text("Be careful.\n")
    (place / "a.py").write_text("a = 1\n")
    return place


@pytest.fixture(params=["bubblewrap", "container"])
def sandbox(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Sandbox:
    if request.param == "container":
        needs_podman(monkeypatch)
    else:
        needs_bubblewrap()
    return open_sandbox(request.param)


def python(sandbox: Sandbox, tree: Path, code: str, limits: Limits = SMALL, *arguments: str) -> Result:
    return sandbox.run(["python", "-c", code, *arguments], cwd=tree, writable=(tree,), limits=limits)


def test_what_it_is_for_works(sandbox: Sandbox, tree: Path) -> None:
    code = "import json, a, pathlib, sys; pathlib.Path('made').write_text('x'); print(a.a, sys.argv[1]); sys.exit(3)"
    result = python(sandbox, tree, code, SMALL, "a b")
    assert (result.exit_code, result.output, result.ok) == (3, "1 a b\n", False)
    assert (tree / "made").read_text() == "x"
    assert python(sandbox, tree, "import pytest").ok, "our own Python and its packages are there"


def test_there_is_no_network(sandbox: Sandbox, tree: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        code = f"import socket; socket.create_connection(('127.0.0.1', {port}), 5)"
        assert subprocess.run([sys.executable, "-c", code]).returncode == 0, "it is there outside"
        result = python(sandbox, tree, code)
    assert result.exit_code == 1
    assert "refused" in result.output
    code = "import socket; print([name for _, name in socket.if_nameindex()])"
    assert python(sandbox, tree, code).output == "['lo']\n"


@pytest.mark.parametrize("place", ["outside", "/usr/x", "/etc/x", "/x", "/dev/x", sys.prefix + "/x"])
def test_nothing_else_is_written(sandbox: Sandbox, tree: Path, tmp_path: Path, place: str) -> None:
    target = os.fspath(tmp_path / place) if place == "outside" else place
    result = python(sandbox, tree, f"open({target!r}, 'w')")
    assert not Path(target).exists()
    if place == "/dev/x" and sandbox.name == "container":
        return  # in memory, and the container's own
    if place != "outside":  # beside the tree lie temporary files of the sandbox's own
        assert "Read-only file system" in result.output or "No such file" in result.output


def test_nothing_else_of_the_user_is_read(sandbox: Sandbox, tree: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(SECRET)
    (tree / "link").symlink_to(tmp_path / "secret")
    engines = ("/run", "/sys") if sandbox.name == "bubblewrap" else ("/run/podman", "/sys/fs/cgroup/x")
    for place in (tmp_path / "secret", "link", Path.home() / ".ssh", "/etc/shadow", "/var", *engines):
        result = python(sandbox, tree, f"import os; os.stat({os.fspath(place)!r})")
        assert "No such file" in result.output, place
    if sandbox.name == "container":
        assert (
            python(sandbox, tree, "import os; print(sorted(os.listdir('/run')))").output
            == "['.containerenv', 'link']\n"
        )
        refused = "import socket; socket.socket(socket.AF_UNIX).connect('/run/link')"
        assert "Connection refused" in python(sandbox, tree, refused).output, "only its first process could"


def test_what_is_protected_can_be_read_only(sandbox: Sandbox, tree: Path) -> None:
    attempts = [
        "open('.github/workflows/ci.yml', 'a')", "open('.github/workflows/new.yml', 'w')",
        "open('docs/AGENTS.md', 'a')", "import os; os.unlink('docs/AGENTS.md')",
        "import os; os.rename('.github', 'x')", "import shutil; shutil.rmtree('docs')",
    ]  # fmt: skip
    for code in attempts:
        assert python(sandbox, tree, code).exit_code == 1, code
    assert "on: push" in python(sandbox, tree, "print(open('.github/workflows/ci.yml').read())").output
    assert (tree / ".github" / "workflows" / "ci.yml").read_text() == "on: push\n"
    assert (tree / "docs" / "AGENTS.md").read_text() == "Be careful.\n"
    assert [path.name for path in (tree / ".github" / "workflows").iterdir()] == ["ci.yml"]


def test_what_is_protected_cannot_be_made(sandbox: Sandbox, tree: Path) -> None:
    code = "import os; os.makedirs('sub/.valuetrain'); open('sub/.valuetrain/policy.yaml', 'w'); open('.GIT', 'w')"
    result = python(sandbox, tree, code + "; os.symlink('a.py', 'Claude.md')")
    assert (result.exit_code, result.ok) == (0, False)
    assert result.refused == (".GIT", "Claude.md", "sub/.valuetrain")
    assert "which is protected: removed" in result.summary
    assert sorted(path.name for path in tree.iterdir()) == [".github", "a.py", "docs", "sub"]


def test_no_secret_of_ours_is_visible(sandbox: Sandbox, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_TOKEN", SECRET)
    code = (
        "import os, pathlib; text = str(dict(os.environ))\n"
        "for place in pathlib.Path('/proc').glob('[0-9]*/*'):\n"
        "    if place.name in ('environ', 'cmdline'):\n"
        "        try: text += place.read_bytes().decode(errors='replace')\n"
        "        except PermissionError: assert place.parent.name == '1'\n"
        "print(len(text), os.path.exists('/proc/2000000'), text)"
    )
    result = python(sandbox, tree, code)
    assert result.exit_code == 0, result.output
    assert SECRET not in result.output
    assert "API_TOKEN" not in result.output


def test_it_has_no_power(sandbox: Sandbox, tree: Path) -> None:
    status = python(sandbox, tree, "print(open('/proc/self/status').read())").output
    for line in ("CapEff:\t0000000000000000", "CapPrm:\t0000000000000000", "NoNewPrivs:\t1"):
        assert line in status
    for command in (
        ["unshare", "--user", "true"],
        ["mount", "--bind", "/usr", "/tmp"],
        ["/usr/sbin/chroot", "/", "true"],
        ["unshare", "--net", "true"],
    ):
        assert sandbox.run(command, cwd=tree, writable=(tree,)).exit_code not in (0, 127)


def test_a_fork_bomb_is_bounded(sandbox: Sandbox, tree: Path) -> None:
    """By the kernel, at once. This bomb has an end of its own, lest a fault here takes the machine with it."""
    marker = "marker-" + uuid.uuid4().hex
    code = (
        "import os, time\n"
        "made = 0\n"
        "for _ in range(300):\n"
        "    try:\n"
        "        os.fork() or time.sleep(600)\n"
        "        made += 1\n"
        "    except BlockingIOError:\n"
        "        pass\n"
        "print(made)"
    )
    result = python(sandbox, tree, code, Limits(seconds=20, processes=40), marker)
    assert result.exit_code == 0, result
    assert 20 <= int(result.output) <= 40
    assert processes(marker) == []


def test_root_whose_processes_cannot_be_counted_runs_nothing(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cgroup, "_ROOT", tmp_path / "nowhere")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(SandboxUnavailable, match=r"cannot be counted here.*as an ordinary user"):
        Bubblewrap("/bin/false").run(["touch", "x"], cwd=tree, writable=(tree,))


def test_memory_is_bounded_for_one_and_for_all(sandbox: Sandbox, tree: Path) -> None:
    assert "MemoryError" in python(sandbox, tree, "x = bytearray(400 << 20)").output
    many = (
        "import os, time\n"
        "for _ in range(8): os.fork() or (x := os.urandom(100 << 20)) and time.sleep(60) or os._exit(0)\n"
        "time.sleep(60)"
    )
    result = python(sandbox, tree, many)
    assert result.stopped == "memory", result


def test_the_disk_is_not_filled(sandbox: Sandbox, tree: Path) -> None:
    one = "f = open('big', 'wb')\nwhile True: f.write(bytes(1 << 20))"
    result = python(sandbox, tree, one)
    assert (result.exit_code, result.stopped) != (0, "")
    assert (tree / "big").stat().st_size <= SMALL.file_bytes
    (tree / "big").unlink()
    many = "import itertools\nfor n in itertools.count(): open(f'f{n}', 'wb').write(bytes(1 << 20))"
    result = python(sandbox, tree, many)
    assert result.stopped == "disk"
    for place in ("/tmp", "/dev/shm"):
        code = f"import itertools\nfor n in itertools.count(): open(f'{place}/f{{n}}', 'wb').write(bytes(1 << 20))"
        result = python(sandbox, tree, code, Limits(seconds=60, temporary_bytes=4 << 20))
        assert "No space left on device" in result.output


def test_whatever_hangs_is_ended_with_its_children(sandbox: Sandbox, tree: Path) -> None:
    marker = "marker-" + uuid.uuid4().hex
    code = (
        "import os, signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "sleep = [sys.executable, '-c', 'import time; time.sleep(600)', sys.argv[1]]\n"
        "subprocess.Popen(sleep, start_new_session=True)\n"
        "print('started', flush=True)\n"
        "time.sleep(600)"
    )
    result = python(sandbox, tree, code, Limits(seconds=1.5), marker)
    assert (result.stopped, result.exit_code, result.output) == ("time", None, "started\n")
    assert processes(marker) == []


def test_what_is_left_behind_ends_with_the_command(sandbox: Sandbox, tree: Path) -> None:
    marker = "marker-" + uuid.uuid4().hex
    code = (
        "import subprocess, sys\n"
        "command = [sys.executable, '-c', 'import time; time.sleep(600)', sys.argv[1]]\n"
        "subprocess.Popen(command, start_new_session=True)\n"
        "subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)"
    )
    result = python(sandbox, tree, code, Limits(seconds=60), marker)
    assert (result.exit_code, result.stopped) == (0, "")
    assert processes(marker) == []


@pytest.mark.chaos
def test_it_ends_with_whoever_runs_it(sandbox: Sandbox, tree: Path) -> None:
    marker = "marker-" + uuid.uuid4().hex
    code = (
        "import sys; from pathlib import Path; from workspace.sandbox.opening import open_sandbox\n"
        "command = ['python', '-c', 'import time; print(1); time.sleep(600)', sys.argv[1]]\n"
        "open_sandbox(sys.argv[3]).run(command, cwd=Path(sys.argv[2]), writable=(Path(sys.argv[2]),))"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, marker, os.fspath(tree), sandbox.name], cwd=ROOT)

    def inside() -> list[int]:
        return [pid for pid in processes(marker) if pid != parent.pid]

    try:
        wait_until(lambda: len(inside()) >= 3)  # the program, the namespace's first process, the command
        parent.kill()
        parent.wait()
        wait_until(lambda: not inside())
    finally:
        parent.kill()
        parent.wait()


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    """Wait for a condition; the deadline only bounds a failing test."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_endless_output_is_drained_and_cut(sandbox: Sandbox, tree: Path) -> None:
    code = "import sys\nprint('begin')\nfor _ in range(100): sys.stdout.write('x' * (1 << 20))\nprint('\\nend')"
    result = python(sandbox, tree, code, Limits(seconds=60, output_bytes=10_000))
    assert result.exit_code == 0
    assert result.left_out == 100 * (1 << 20) + len("begin\n\nend\n") - 10_000
    assert f"[… {result.left_out:,} bytes of output left out …]" in result.output
    assert result.output.startswith("begin\nx")
    assert result.output.endswith("x\nend\n")
    assert len(result.output) < 10_200


def test_several_runs_at_once_do_not_meet(sandbox: Sandbox, tree: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    results: list[Result] = []

    def run(place: Path) -> None:
        code = "import os, time; open('/tmp/of-one-run-alone', 'x'); time.sleep(0.2); print(os.getpid() < 20)"
        results.append(python(sandbox, place, code))

    threads = [threading.Thread(target=run, args=(place,)) for place in (tree, other)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [result.output for result in results] == ["True\n"] * 2, "each has processes of its own"


def test_a_directory_that_is_not_writable_is_not(sandbox: Sandbox, tree: Path) -> None:
    result = sandbox.run(["python", "-c", "print(open('a.py').read()); open('b', 'w')"], cwd=tree)
    assert "a = 1" in result.output
    assert "Read-only file system" in result.output


def test_a_program_that_is_not_there_is_named(sandbox: Sandbox, tree: Path) -> None:
    result = sandbox.run(["no-such-program"], cwd=tree)
    assert (result.exit_code, result.output) == (127, "no-such-program cannot be started: No such file or directory\n")
    with pytest.raises(ValueError, match="no command"):
        sandbox.run([], cwd=tree)
    with pytest.raises(ValueError, match="is no directory"):
        sandbox.run(["true"], cwd=tree / "nowhere")


def test_without_bubblewrap_nothing_runs(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    with pytest.raises(SandboxUnavailable, match=r"is not installed.*install the package `bubblewrap`"):
        open_sandbox("bubblewrap")
    with pytest.raises(SandboxUnavailable, match=r"no container engine.*install the package `podman`"):
        open_sandbox("container")
    with pytest.raises(
        SandboxUnavailable, match="no sandbox 'none'; set `sandbox` to one of bubblewrap, container, local-unsafe"
    ):
        open_sandbox("none")
    with pytest.raises(SandboxUnavailable, match="sandbox_environments"):
        open_sandbox("local-unsafe", [tree / "venv"])


@pytest.mark.parametrize(
    ("name", "says"), [("bubblewrap", "bubblewrap runs on"), ("container", "containers are made on")]
)
def test_on_another_system_nothing_runs(name: str, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "plan9")
    with pytest.raises(SandboxUnavailable, match=f"{says} Linux, and this is plan9; drive tickets that change code on"):
        open_sandbox(name)


def test_a_bubblewrap_that_cannot_do_it_runs_nothing(tree: Path, tmp_path: Path) -> None:
    broken = tmp_path / "bwrap"
    broken.write_text("#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n")
    broken.chmod(0o755)
    with pytest.raises(SandboxUnavailable, match=r"No permissions to create new namespace.*allow user namespaces"):
        Bubblewrap(os.fspath(broken)).run(["touch", os.fspath(tree / "x")], cwd=tree, writable=(tree,))
    assert not (tree / "x").exists()


def test_unsafe_says_so_and_still_has_limits(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_TOKEN", SECRET)
    sandbox = open_sandbox("local-unsafe")
    result = python(sandbox, tree, "import os; print(dict(os.environ)); open('.gitmodules', 'w')")
    assert (result.contained, result.exit_code, result.refused) == (False, 0, (".gitmodules",))
    assert SECRET not in result.output
    marker = "marker-" + uuid.uuid4().hex
    code = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(600)', sys.argv[1]])"
    assert python(sandbox, tree, code, Limits(seconds=1.0), marker).stopped == "time"
    assert processes(marker) == []
    assert "MemoryError" in python(sandbox, tree, "x = bytearray(400 << 20)").output


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (".git/config", True), ("sub/.git", True), (".GitHub/x", True), ("a/.valuetrain/policy.yaml", True),
        ("docs/agents.MD", True), ("CODEOWNERS", True), (".gitignore", False), ("src/git.py", False),
        ("github/x", False), ("agents/md", False), ("docs/my-agents.md", False),
    ],
)  # fmt: skip
def test_protected_paths(path: str, expected: bool) -> None:
    assert is_protected(path) is expected


def test_a_run_is_ended_by_order(sandbox: Sandbox, tree: Path) -> None:
    seconds = f"86444.{uuid.uuid4().int}"  # one that no other run of this test sleeps
    for each in (sandbox, open_sandbox("local-unsafe")):
        result = each.run(["sleep", seconds], cwd=tree, writable=(tree,), stop=lambda: True)
        assert (result.stopped, result.exit_code) == ("order", None)
        assert "stopped by order" in result.summary
    assert processes(seconds) == []
