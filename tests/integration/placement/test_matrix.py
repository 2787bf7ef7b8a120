"""8.2.1: all isolation models pass the same tests: each run is a pytest of its own, by `--model`; run it by `-m models`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SUITES = (
    "tests/security/test_cross_tenant.py",
    "tests/security/test_interleavings.py",
    "tests/security/test_sign_up.py",
    "tests/integration/rules",
    "tests/integration/server/test_events.py",
    "tests/integration/server/test_rooms.py",
    "tests/integration/server/test_queries.py",
    "tests/integration/server/test_calls.py",
    "tests/acceptance/test_tenancy.py",
)


@pytest.mark.models
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("model", ["database", "cluster"])
@pytest.mark.parametrize("suite", SUITES)
def test_the_same_tests_over_another_model(suite: str, model: str) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--model", model, suite]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout[-4000:]
