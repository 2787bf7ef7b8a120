"""8.2.1, DB-1: all isolation models pass the same tests, each in a pytest of its own by `--model`; run it by `-m models`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[2]
ITS_OWN = Path(__file__).parent
"""The tests here choose the models themselves."""
SUITES = [one.parent for one in sorted(TESTS.glob("integration/*/__init__.py")) if one.parent != ITS_OWN]
SUITES += [TESTS / "security", TESTS / "acceptance"]
"""All that runs over servers: a directory that is added is among them by itself."""

pytestmark = pytest.mark.shared_only("runs other tests over both other models itself")


@pytest.mark.models
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("model", ["database", "cluster"])
@pytest.mark.parametrize("suite", SUITES, ids=lambda one: one.name)
def test_the_same_tests_over_another_model(suite: Path, model: str) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--model", model, str(suite)]
    ended = subprocess.run(command, cwd=TESTS.parent, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout[-4000:]
