"""The skills of a code change, where the policy lists hosts: the project's tests reach those, and that is said."""

from __future__ import annotations

import json
from pathlib import Path

from agents.skills.devsecops.change import DevsecopsChange
from agents.skills.evaluation.review import EvaluationReview
from agents.skills.lead.change_design import LeadChangeDesign
from agents.skills.lead.change_scope import LeadChangeScope
from tests.skills.code_project import FIXED_TESTS, fix, make_project, patch_of, ticket_for
from tests.skills.harness import run_chain
from tests.workspace.bwrap import needs_bubblewrap
from tests.workspace.test_reaching import serving

FETCHING = """

def test_{name}() -> None:
    import http.client

    connection = http.client.HTTPConnection("127.0.0.1", 3128, timeout=20)
    try:
        connection.request("GET", "{url}")
        reached = connection.getresponse().status == 200
    except OSError:
        reached = False
    assert reached is {reached}
"""


def test_the_projects_tests_reach_what_is_listed_and_hidden_ones_nothing(tmp_path: Path) -> None:
    needs_bubblewrap()
    shop, backlog = make_project(tmp_path / "shop"), tmp_path / "backlog"
    backlog.mkdir()
    with serving() as server:
        here, there = f"http://{server.place}/seen", "http://evil.example/x"
        acceptance = FETCHING.format(name="hidden", url=here + "-by-hidden", reached=False)

        def change(tree: Path) -> None:
            fix(tree)
            more = FETCHING.format(name="listed", url=here, reached=True)
            more += FETCHING.format(name="other", url=there, reached=False)
            (tree / "tests" / "test_loader.py").write_text(FIXED_TESTS + more)

        ticket = ticket_for(shop, backlog, patch_of(shop, change))
        for name in ticket.acceptance_tests:
            (backlog / name).write_text(acceptance)
        skills = (LeadChangeScope, LeadChangeDesign, DevsecopsChange, EvaluationReview)
        facts = {"sandbox_hosts": [server.place]}
        outputs, files = run_chain(skills, ticket, tmp_path / "work", roots=(backlog,), facts=facts)
        assert server.seen == ["GET /seen HTTP/1.1"] * 2, "once when it is built, once when it is reviewed"
    report = json.loads(files["test-report.json"].read_text())
    assert report["before"]["contacts"] == []
    assert {line.split()[1].strip(":") for line in report["after"]["contacts"]} == {"reached", "refused"}, report[
        "after"
    ]
    for skill in ("devsecops.change", "evaluation.review"):
        (warning,) = [each for each in outputs[skill].warnings if "used the network" in each]
        assert warning.startswith("the tests after the change used the network: ")
        assert f"{server.place} reached" in warning
        assert "evil.example:80 refused: the policy's `sandbox_hosts` do not list it" in warning
    evidence = {each.item: each.evidence for each in outputs["devsecops.change"].ticked}["reproducible"]
    assert evidence.endswith(f"with the network of {server.place}")
    document = files["review-report.md"].read_text()
    assert f"tests ran in a sandbox that may reach {server.place}." in document
    assert "## Hosts that tests and scan asked for" in document
    review = json.loads(files["review-report.json"].read_text())
    assert review["acceptance"]["contacts"] == []
    assert set(review["acceptance"]["outcomes"].values()) == {"passed"}
