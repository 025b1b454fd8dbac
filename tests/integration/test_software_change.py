"""A change to a real repository, from a ticket to a branch that holds it: the whole system, the real sandbox."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.train import Train
from tests.skills.code_project import (
    ACCEPTANCE,
    FIXED,
    LOADER,
    TITLE,
    fix,
    git,
    make_project,
    patch_of,
    write_project,
)
from tests.workspace.bwrap import needs_bubblewrap

pytestmark = pytest.mark.slow


@pytest.fixture
def shop(train: Train) -> Train:
    """The project in the drive's own repository."""
    needs_bubblewrap()
    write_project(train.repo)
    train.git("add", "--all", ":!backlog", ":!.valuetrain")
    train.git("commit", "--quiet", "-m", "A shop")
    return train


def write(train: Train, name: str, text: str) -> str:
    place = train.repo / "backlog" / name
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text)
    return name


def patch(train: Train, name: str, text: str) -> str:
    """What another loader comes to, as a patch beside the tickets; made in a copy of the project."""
    copy = make_project(train.repo.parent / name)
    made = patch_of(copy, lambda tree: (tree / "shop" / "loader.py").write_text(text) and None)
    return write(train, f"patches/{name}.patch", made)


def test_a_change_goes_to_a_branch_and_a_blocked_one_does_not(shop: Train) -> None:
    copy = make_project(shop.repo.parent / "copy")
    good = write(shop, "patches/good.patch", patch_of(copy, fix))
    test = write(shop, "acceptance/last_row.py", ACCEPTANCE)
    common = {"pipeline": "software-change", "acceptance_tests": [test]}
    shop.ticket(1, TITLE, change=good, **common)
    shop.ticket(2, "Does something else", change=patch(shop, "useless", LOADER + "\n# nothing\n"), **common)
    shop.ticket(3, "Breaks it", change=patch(shop, "bad", LOADER.replace('split(",")', 'split(";")')), **common)
    shop.ticket(4, "No change", **common)
    shop.ticket(5, "A model has no patch", pipeline="ml-delivery", data="sklearn:wine", target="cultivar", change=good)
    shop.ticket(6, "Another repository", change=good, repository="../copy", **common)
    head = shop.git("rev-parse", "HEAD").strip()
    shop.policy("approvers:\n  - {name: dana, paths: [shop/*, tests/*]}\n  - {name: erik, paths: [docs/*]}\n")

    ran = shop.run("drive", "--no-wait", "--json")

    summary = ran.json
    assert [row["ticket"] for row in summary["waiting"]] == [1], summary
    why = {row["ticket"]: row["reason"] for row in summary["blocked"]}
    assert "not met: review.blocking == 0.0 (measured review.blocking = 1)" in why[2]
    assert "not met: tests.failed == 0.0 (measured tests.failed = 1)" in why[3]
    assert "the ticket brings no change" in why[4]
    assert "name a patch below the backlog folder" in why[4]
    passed_over = {row["ticket"]: row["reason"] for row in summary["skipped"]}
    assert "pipeline 'ml-delivery' changes no code: leave out change" in passed_over[5]
    assert "is not below one of the policy's `repository_roots`" in passed_over[6]

    (gate,) = [row["gate"] for row in summary["waiting"]]
    (row,) = shop.run("gate", "list", "--json").json
    assert (row["touched"], row["may_decide"]) == (
        ["shop/loader.py", "tests/test_loader.py"], ["dana (shop/*, tests/*)"]
    )  # fmt: skip
    assert shop.run("gate", "approve", gate, "--as", "erik").code == 5, "the files are not erik's"
    assert shop.run("gate", "approve", gate, "--as", "dana", "--reason", "read it").code == 0
    summary = shop.run("drive", "--no-wait", "--json").json
    (done,) = summary["completed"]
    branch, session = done["branch"], done["session"]
    changed = shop.git("diff", "--name-only", f"{head}..{branch}", "--", ":!tickets").split()
    assert changed == ["shop/loader.py", "tests/test_loader.py"]
    assert shop.git("show", f"{branch}:shop/loader.py") == FIXED
    (commit,) = shop.git("log", "--format=%H", f"{head}..{branch}", "--", "shop").split()
    assert shop.git("show", "--format=%s", "--name-only", commit).split("\n")[0] == TITLE
    assert not [name for name in shop.git("show", "--format=", "--name-only", commit).split() if "tickets" in name]
    folder = f"{branch}:tickets/delivery_1/artifacts/deliver"
    files = shop.git("ls-tree", "--name-only", folder).split()
    assert {"pull-request.md", "sbom.cdx.json", "provenance.json", "provenance.json.dsse.json"} <= set(files)
    assert "dana" in shop.git("show", f"{folder}/pull-request.md")
    assert str(shop.repo) not in shop.git("show", f"{branch}:tickets/delivery_1/ticket.yml")
    assert shop.run("session", "replay", session, "--verify", "--json").json["difference"] is None
    assert shop.git("rev-parse", "HEAD").strip() == head, "the user's branch is as it was"


def test_another_repository_is_changed_where_the_policy_allows_it(train: Train, tmp_path: Path) -> None:
    needs_bubblewrap()
    copy = make_project(tmp_path / "services" / "shop")
    good = write(train, "patches/good.patch", patch_of(copy, fix))
    train.policy("approvers:\n  - name: dana\nrepository_roots: [../services]\n")
    train.ticket(1, TITLE, change=good, repository="shop", pipeline="software-change")
    train.ticket(2, "Out of it", change=good, repository="../repository", pipeline="software-change")
    summary = train.run("drive", "--no-wait", "--json").json
    (waiting,) = summary["waiting"]
    assert "leads out of the policy's `repository_roots`" in summary["skipped"][0]["reason"]
    (branch,) = git(copy, "branch", "--list", "phase/*", "--format=%(refname:short)").split()
    assert git(copy, "show", f"{branch}:shop/loader.py") + "\n" == FIXED
    assert "phase/" not in train.git("branch", "--list")
    session = str(waiting["session"])
    ran = train.run("session", "rollback", session, "--to", "design", "--as", "dana", "--reason", "think again")
    assert ran.code == 0, ran.err
    assert git(copy, "show", f"{branch}:shop/loader.py") + "\n" == LOADER, "the way back takes the change with it"
