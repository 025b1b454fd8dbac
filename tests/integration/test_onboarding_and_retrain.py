"""A data set taken into the catalogue, and a model trained anew, each driven to its end by the command line."""

from __future__ import annotations

import json

from tests.integration.train import Train


def test_a_data_set_is_onboarded_to_its_end(train: Train) -> None:
    """Without a person for harmless rows; rows about people wait for one."""
    train.ticket(21, "Wines of three cultivars", pipeline="data-onboarding", data=train.data("wine.csv"))
    train.ticket(22, "A survey of voters", pipeline="data-onboarding", data=train.data("votes.csv"))

    ran = train.run("drive", "--no-wait", "--json")

    assert ran.code == 3, ran.out + ran.err
    assert [row["ticket"] for row in ran.json["completed"]] == [21]
    (waiting,) = ran.json["waiting"]
    assert waiting["ticket"] == 22
    assert train.run("gate", "approve", waiting["gate"], "--as", "dana").code == 0
    again = train.run("drive", "--json")
    assert [row["ticket"] for row in again.json["completed"]] == [22]

    for row in train.run("session", "list", "--json").json:
        assert row["status"] == "completed"
        branch = str(row["branch"])
        files = train.git("ls-tree", "-r", "--name-only", branch).split()
        entry = next(name for name in files if name.endswith("onboarding/catalogue-entry.json"))
        assert f"{entry}.dsse.json" in files
        assert not any(name.endswith(".parquet") for name in files)
        assert json.loads(train.git("show", f"{branch}:{entry}"))["owner"] == "alice"
        assert train.run("session", "replay", str(row["session"]), "--verify", "--json").json["difference"] is None
    assert train.run("audit", "verify", "--json").json["findings"] == []
