"""What a fork server imports before there is work: enough for its roles, and nothing that costs more than it saves."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from agents.worker import PRELOAD, VALIDATOR, preload
from schemas.values import Role

VALIDATE = """
import json, sys
from agents.skills.devsecops.validator import JsonStrictValidator
from cyclonedx.schema import SchemaVersion

def fault(url):
    reference = {"type": "website", "url": url}
    component = {"type": "library", "name": "x", "externalReferences": [reference]}
    document = {"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1, "components": [component]}
    return JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(document))

before = "lark" in sys.modules
print(json.dumps([before, fault("https://example.org/ä") is None, fault("http://[") is None, "lark" in sys.modules]))
"""


def test_all_roles_together_get_everything() -> None:
    assert preload(Role) == PRELOAD


@pytest.mark.parametrize("role", Role)
def test_a_role_gets_what_it_uses(role: Role) -> None:
    given = preload([role])
    assert given == tuple(name for name in PRELOAD if name in given), "in the order that was measured"
    assert ("optuna" in given) is (role in {Role.TRAINING, Role.EVALUATION})
    assert (VALIDATOR in given) is (role is Role.DEVSECOPS)
    assert ("sklearn.pipeline" in given) is (role not in {Role.LEAD, Role.RISK})


def test_two_roles_get_what_either_uses() -> None:
    assert set(preload([Role.DATA, Role.TRAINING])) == set(preload([Role.DATA])) | set(preload([Role.TRAINING]))


def test_addresses_are_checked_and_only_then_paid_for() -> None:
    done = subprocess.run([sys.executable, "-c", VALIDATE], check=True, capture_output=True, text=True)
    assert json.loads(done.stdout) == [False, True, False, True]
