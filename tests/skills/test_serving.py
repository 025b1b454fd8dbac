"""The model server, the splitter and the sequential test: real sockets on loopback, one process."""

from __future__ import annotations

import json
import os
import random
import select
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from agents.skill import InputError, SkillError
from agents.skills.data.descriptions import describe_values
from agents.skills.data.drift import compare_column
from agents.skills.devsecops.bundle import baseline_package
from agents.skills.devsecops.replica import Replica, as_rows, request
from agents.skills.devsecops.sequential import Watch
from agents.skills.devsecops.serving import MAX_ROWS, ModelServer
from agents.skills.devsecops.splitter import Splitter
from agents.skills.training.inuse import Package, read_package
from agents.skills.training.modelfile import dump_model, zip_bytes
from tests.skills.ml_inputs import ROOT, binary_wine, feature_map, make_inputs


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Package:
    """A small package with a real model of wines."""
    import hashlib

    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import Pipeline

    from agents.skills.feature.transform import build_transformer, prepare_frame

    frame, labels = binary_wine()
    features = feature_map(frame)
    inputs = make_inputs(tmp_path_factory.mktemp("wine"), frame, labels, metric="roc_auc")
    model = Pipeline([("transform", build_transformer(features)), ("model", LogisticRegression())])
    model.fit(prepare_frame(frame, features), labels)
    files = {name: inputs[name].read_bytes() for name in ("feature-map.json", "scope.json")}
    files["model.skops"] = dump_model(model)
    manifest = {
        "format": "value-train-model/1", "name": 'wines "red"', "version": "1", "target": "y",
        "model": {"kind": "linear (default)", "parameters": {}}, "inputs": {"signature": features.signature},
        "files": {n: {"sha256": hashlib.sha256(c).hexdigest(), "bytes": len(c)} for n, c in files.items()},
    }  # fmt: skip
    return read_package("wine.zip", zip_bytes({**files, "package.json": json.dumps(manifest).encode()}))


@contextmanager
def served(package: Package) -> Iterator[int]:
    """A server in a thread; its port."""
    with ModelServer(package) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def rows(count: int = 3) -> list[dict[str, Any]]:
    frame, _ = binary_wine()
    return as_rows(frame.head(count), list(frame.columns))


def test_it_predicts_says_how_it_is_and_counts(package: Package) -> None:
    with served(package) as port:
        answer = request(port, "POST", "/predict", {"rows": rows()})
        assert answer.code == 200
        assert len(answer.body["predictions"]) == 3
        for predicted, shares in zip(answer.body["predictions"], answer.body["probabilities"], strict=True):
            assert sum(shares.values()) == pytest.approx(1.0)
            assert max(shares, key=lambda label: shares[label]) == predicted
        health = request(port, "GET", "/health").body
        assert health["status"] == "ok"
        assert health["sha256"] == package.sha256
        text = request(port, "GET", "/metrics").body
        assert 'model_requests_total{path="/predict",code="200"} 1' in text
        assert "model_rows_total 3" in text
        assert 'name="wines \\"red\\""' in text


@pytest.mark.parametrize(
    ("path", "body", "code", "says"),
    [
        ("/predict", {"rows": []}, 400, "at least one row"),
        ("/predict", [1], 400, "at least one row"),
        ("/predict", {"rows": [{"ash": 1.0}]}, 400, "lack 2 column(s) the model needs"),
        ("/predict", {"rows": [{"ash": [1]}]}, 400, "'ash' holds no text, number"),
        ("/predict", {"rows": [{}] * (MAX_ROWS + 1)}, 413, "send them in parts"),
        ("/predict", {"rows": [{"x": "y" * 1_000_001}]}, 413, "send fewer rows"),
        ("/elsewhere", {"rows": []}, 404, "rows go to /predict"),
    ],
)
def test_what_it_cannot_answer_is_said(package: Package, path: str, body: Any, code: int, says: str) -> None:
    with served(package) as port:
        answer = request(port, "POST", path, body)
        assert (answer.code, says in str(answer.body)) in ((code, True), (0, False)), answer
        if code != 413:
            assert answer.code == code
        assert request(port, "GET", "/predict").code == 405
        assert request(port, "POST", "/predict", {"rows": rows(1)}).code == 200, "and it goes on"


def test_strange_values_are_predicted_as_missing_or_unseen(package: Package) -> None:
    with served(package) as port:
        strange = [{**rows(1)[0], "ash": value} for value in (None, "a lot", True, 1e300)]
        answer = request(port, "POST", "/predict", {"rows": strange})
        assert (answer.code, len(answer.body["predictions"])) == (200, 4)


def test_the_splitter_keeps_the_share_and_the_same_request_its_server(package: Package) -> None:
    with served(package) as one, served(package) as two, Splitter(one, two, seed=3) as splitter:
        keys = [str(number).encode() for number in range(2000)]
        splitter.share = 0.1
        small = {key for key in keys if splitter.route(key)[0] == "challenger"}
        assert 140 < len(small) < 260
        splitter.share = 0.5
        half = {key for key in keys if splitter.route(key)[0] == "challenger"}
        assert small < half
        splitter.share = 0.0
        answer = request(splitter.port, "POST", "/predict", {"rows": rows(1)}, {"X-Request-Key": "7"})
        assert (answer.code, answer.arm) == (200, "champion")
        splitter.share = 1.0
        assert request(splitter.port, "POST", "/predict", {"rows": rows(1)}).arm == "challenger"
        with pytest.raises(ValueError, match="a share lies in"):
            splitter.share = 1.5


def test_a_dead_server_behind_the_splitter_is_a_bad_answer(package: Package) -> None:
    with served(package) as one, Splitter(one, 9, seed=3) as splitter:  # nothing listens on port 9
        splitter.share = 1.0
        answer = request(splitter.port, "POST", "/predict", {"rows": rows(1)})
        assert (answer.code, answer.arm) == (502, "challenger")


def test_a_package_that_is_none_does_not_start(tmp_path: Path) -> None:
    (tmp_path / "bad.zip").write_bytes(b"no zip")
    replica = Replica("challenger", tmp_path / "bad.zip")
    with pytest.raises(SkillError, match=r"did not start: cannot serve bad.zip: bad.zip is no model package"), replica:
        pass
    assert replica.exit == 1


def test_a_server_ends_with_whoever_started_it(package: Package, tmp_path: Path) -> None:
    """Also when that is killed and can stop nothing any more."""
    (tmp_path / "wine.zip").write_bytes(package.data)
    code = (
        "import pathlib, signal, sys; from agents.skills.devsecops.replica import Replica\n"
        "with Replica('challenger', pathlib.Path(sys.argv[1])) as replica:\n"
        "    print(replica.pid, flush=True); signal.pause()\n"
    )
    starter = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "wine.zip")], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert starter.stdout
    with starter.stdout as said:
        server = os.pidfd_open(int(said.readline()))
    try:
        starter.kill()
        starter.wait()
        ready, _, _ = select.select([server], [], [], 60)
        assert ready, "the server outlived its starter"
    finally:
        os.close(server)


def test_the_baseline_as_a_package_answers_always_the_same(package: Package) -> None:
    from sklearn.dummy import DummyClassifier
    from sklearn.pipeline import Pipeline

    frame, labels = binary_wine()
    floor = Pipeline([("model", DummyClassifier(strategy="prior"))]).fit(frame, labels)
    before = read_package("baseline", baseline_package(package, dump_model(floor)))
    with served(before) as port:
        answer = request(port, "POST", "/predict", {"rows": rows(5)})
        assert len({json.dumps(each) for each in answer.body["probabilities"]}) == 1


def test_a_package_must_be_one() -> None:
    with pytest.raises(InputError, match="no model package"):
        read_package("x.zip", b"PK")


def test_a_sound_stream_is_hardly_ever_given_up_though_it_is_looked_at_all_the_time() -> None:
    generator = random.Random(5)
    given_up = 0
    for _ in range(400):
        watch = Watch("wrong", 0.1, 0.05)
        for _ in range(300):
            watch.see(generator.random() < 0.1)
            if watch.breached:
                given_up += 1
                break
    assert given_up <= 0.05 * 400


def test_a_bad_stream_is_given_up_soon() -> None:
    generator = random.Random(5)
    needed = []
    for _ in range(50):
        watch = Watch("wrong", 0.1, 0.05)
        while not watch.breached:
            watch.see(generator.random() < 0.6)
        needed.append(watch.seen)
    assert sorted(needed)[45] < 25


@pytest.mark.parametrize(("limit", "alpha"), [(0.0, 0.05), (1.0, 0.05), (0.1, 0.0)])
def test_limits_of_a_watch(limit: float, alpha: float) -> None:
    with pytest.raises(ValueError, match="lie in"):
        Watch("x", limit, alpha)


def drift(before: list[Any], now: list[Any]) -> bool:
    return compare_column(describe_values(pd.Series(before, name="x")), pd.Series(now, name="x"), len(before)).moved


def test_the_same_rows_have_not_moved_and_others_have() -> None:
    generator = random.Random(7)
    numbers = [generator.gauss(0, 1) for _ in range(600)]
    many_zeros = [0.0] * 300 + [generator.expovariate(1) * 1000 for _ in range(300)]
    levels = ["a"] * 300 + ["b"] * 200 + ["c"] * 100
    for values in (numbers, many_zeros, levels):
        assert not drift(values, values)
        assert not drift(values, generator.sample(values, 80)), "chance is no drift"
        assert drift(values, [None] * 300 + values[:300]), "half of the cells are gone"
    assert drift(numbers, [value + 1 for value in numbers])
    assert drift(numbers, [value * 100 for value in numbers])
    assert drift(many_zeros, many_zeros[300:] * 2)
    assert drift(levels, ["a"] * 100 + ["d"] * 500)
