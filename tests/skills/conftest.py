"""Fixtures for the skills' tests: the small real datasets of `tests/data`, and phases already run on them."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from agents.skill import Skill
from agents.skills.data.extract import DataExtract
from agents.skills.data.profile import DataProfile
from agents.skills.data.source import DataSource
from agents.skills.data.split import DataSplit
from agents.skills.devsecops import replica
from agents.skills.feature.leakage import FeatureLeakage
from agents.skills.feature.pipeline import FeaturePipeline
from agents.skills.lead.scope import LeadScope
from schemas.ticket import Ticket
from tests.skills.forked import ForkedServer
from tests.skills.harness import run_chain

DATA = Path(__file__).resolve().parent.parent / "data"
TO_DATASET: tuple[type[Skill[Any, Any]], ...] = (LeadScope, DataSource, DataExtract)
TO_SPLIT = (*TO_DATASET, DataSplit)
TO_FEATURES = (*TO_SPLIT, DataProfile, FeaturePipeline, FeatureLeakage)

WINE = Ticket(id=1, title="Tell cultivars apart", data="wine.csv", target="cultivar")
VOTES = Ticket(id=2, title="Expect a vote", data="votes.csv", target="vote")
TRAVEL = Ticket(id=3, title="Expect a choice", data="travel.csv", target="chosen", groups="individual")
ECONOMY = Ticket(id=4, title="Expect unemployment", data="economy.csv", target="unemp", time="quarter_start")
TICKETS = {"wine": WINE, "votes": VOTES, "travel": TRAVEL, "economy": ECONOMY}


@pytest.fixture(scope="session", autouse=True)
def forked_servers() -> Iterator[None]:
    """See `tests.skills.forked`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(replica, "subprocess", SimpleNamespace(**vars(subprocess) | {"Popen": ForkedServer}))
        yield


@pytest.fixture
def data_root() -> Path:
    """The folder of small real datasets, used as an allowed root."""
    return DATA


@pytest.fixture(scope="session", params=TICKETS)
def prepared(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """(ticket, outputs by skill, files by name) of every phase up to the leakage tests, on each real dataset."""
    ticket = TICKETS[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    return ticket, *run_chain(TO_FEATURES, ticket, folder, roots=(DATA,))


@pytest.fixture
def write_csv(tmp_path: Path) -> Callable[..., Ticket]:
    """Writes rows below a root and gives a ticket that names them."""

    def write(text: str | bytes, name: str = "rows.csv", target: str = "y", **more: Any) -> Ticket:
        (tmp_path / name).write_bytes(text if isinstance(text, bytes) else text.encode())
        return Ticket(id=9, title="Rows", data=name, target=target, **more)

    return write


@pytest.fixture(scope="session")
def delivered_voters(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The artifacts of a delivery on the survey of voters, to be read only."""
    from tests.skills.retraining import deliver  # which reads this module

    return deliver(tmp_path_factory.mktemp("delivered"))
