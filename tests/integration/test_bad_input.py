"""Bad tickets, hostile data, awkward surroundings: a clear message each, no traceback, and the other tickets go on."""

from __future__ import annotations

import pickle
import socket
from pathlib import Path

from tests.integration.train import Train

ROWS = [f"{i},{i % 7},{'yes' if i % 3 else 'no'}" for i in range(60)]


def _csv(train: Train, name: str, header: str, rows: list[str]) -> str:
    path = train.repo / "backlog" / "data" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([header, *rows]) + "\n", "utf-8")
    return f"data/{name}"


def test_bad_tickets_and_data_are_named_and_the_good_ticket_completes(train: Train) -> None:
    backlog = train.repo / "backlog"
    outside = train.repo.parent / "outside.csv"
    outside.write_text("a,b\n1,2\n", "utf-8")
    huge = backlog / "data" / "huge.csv"
    huge.parent.mkdir(parents=True)
    with huge.open("wb") as file:
        file.truncate(1_000_000_000)
    (backlog / "data" / "model.csv").write_bytes(pickle.dumps({"not": "a table"}))

    good = _csv(train, "good.csv", "a,b,y", ROWS)
    cases: dict[int, tuple[dict[str, object], str]] = {
        2: ({"data": good, "target": "missing"}, "missing"),
        3: ({"data": _csv(train, "one.csv", "a,b,y", [f"{i},{i},yes" for i in range(60)]), "target": "y"}, "outcomes"),
        4: ({"data": _csv(train, "empty.csv", "a,b,y", []), "target": "y"}, "row"),
        5: ({"data": _csv(train, "nan.csv", "a,b,y", [f"{i},{i}," for i in range(60)]), "target": "y"}, "y"),
        6: ({"data": _csv(train, "twice.csv", "a,a,y", ROWS), "target": "y"}, "a"),
        7: ({"data": "data/huge.csv", "target": "y"}, "huge.csv"),
        8: ({"data": "../../outside.csv", "target": "b"}, "outside"),
        9: ({"data": "data/model.csv", "target": "y"}, "model.csv"),
        10: ({"data": "data/none.csv", "target": "y"}, "none.csv"),
        11: ({"data": good, "target": "y", "acceptance": ["metrics.beauty > 0.5"]}, "beauty"),
        12: ({"data": good, "target": "y", "acceptance": ["metrics.accuracy >"]}, "metrics.accuracy >"),
        13: ({"data": good, "target": "y", "pipeline": "no-such-line"}, "no-such-line"),
        14: ({"data": _csv(train, "text.csv", "a,b,y", [f"{i},x,word{i}" for i in range(60)]), "target": "y",
              "task": "regression"}, "y"),
    }  # fmt: skip
    for number, (fields, _) in cases.items():
        train.ticket(number, f"Bad ticket {number}", **fields)
    (backlog / "words.md").write_text("# No front matter\n", "utf-8")
    (backlog / "yaml.md").write_text("---\nid: 20\ntitle: [\n---\n", "utf-8")
    (backlog / "field.md").write_text("---\nid: 21\ntitle: x\ntagret: y\n---\n", "utf-8")
    train.ticket(30, "A good ticket", data=train.data("votes.csv"), target="vote")

    ran = train.run("drive", "--json")

    assert ran.code == 4, ran.out + ran.err
    summary = ran.json
    assert [row["ticket"] for row in summary["completed"]] == [30]
    told = {row["ticket"]: row["reason"] for row in [*summary["blocked"], *summary["skipped"]]}
    silent = {
        number: told.get(number, "nothing") for number, (_, word) in cases.items() if word not in told.get(number, "")
    }
    assert silent == {}
    assert "tagret" in told["field.md"]
    assert "target" in told["field.md"]
    assert "front matter" in told["words.md"]
    assert "yaml.md" in told
    assert train.run("audit", "verify").code == 0
    again = train.run("drive", "--json")
    assert again.code == 4
    assert again.json["completed"] == []
    assert again.json["seconds"] < 60


def test_surroundings(train: Train, tmp_path: Path) -> None:
    """No repository, no commit, no backlog, a port that is taken, unknown names: one line each."""
    bare = Train(tmp_path / "bare")
    bare.repo.mkdir()
    ran = bare.run("drive")
    assert ran.code == 1
    assert "git init" in ran.err
    bare.git("init", "--quiet")
    ran = bare.run("drive")
    assert ran.code == 1
    assert "commit" in ran.err

    ran = train.run("drive", "--backlog", "nowhere")
    assert ran.code == 1
    assert "nowhere" in ran.err
    ran = train.run("drive", "--json")
    assert ran.code == 0
    assert ran.json["completed"] == []

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        (train.home / "config.yaml").write_text(f"nats_port: {port}\n", "utf-8")
        ran = train.run("drive")
        assert ran.code == 1
        assert str(port) in ran.err
    (train.home / "config.yaml").write_text("nats_prot: 1\n", "utf-8")
    ran = train.run("drive")
    assert ran.code == 1
    assert "nats_prot" in ran.err
    (train.home / "config.yaml").unlink()
    train.policy("approvers: [\n")
    ran = train.run("drive")
    assert ran.code == 1
    assert "policy.yaml" in ran.err

    for words in (("session", "show", "s9-none"), ("session", "replay", "s9-none"), ("tail", "--session", "s9-none")):
        ran = train.run(*words)
        assert ran.code == 1
        assert "s9-none" in ran.err
    ran = train.run("gate", "approve", "s9-none.risk-review.1")
    assert ran.code == 1
    assert "s9-none" in ran.err
    assert train.run("gate", "approve").code == 2
    ran = train.run("agent", "run", "poet")
    assert ran.code == 2
    assert "training" in ran.err


def test_uncommitted_changes_are_said_and_not_taken(train: Train) -> None:
    (train.repo / "README.md").write_text("changed\n", "utf-8")
    train.ticket(1, "Ask for nothing that is there", data=train.data("wine.csv"), target="nothing")
    ran = train.run("drive")
    assert ran.code == 4
    assert "README.md" in ran.out
    assert "uncommitted" in ran.out
    assert (train.repo / "README.md").read_text("utf-8") == "changed\n"
