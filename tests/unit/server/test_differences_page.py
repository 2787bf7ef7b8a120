"""docs/guide/differences.md names, for each weakness of Feathers, what Roost does and a test that is there."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "guide" / "differences.md"


def test_every_test_that_the_page_names_is_there() -> None:
    text = PAGE.read_text()
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", text)
    assert len(named) > 40
    for file, name in named:
        assert re.search(rf"def {name}\(", (ROOT / file).read_text()), f"{file}::{name}"
    assert not re.search(r"`tests/(?![\w/]+\.py::\w+`)", text)


def test_every_weakness_has_its_row() -> None:
    rows = [line for line in PAGE.read_text().splitlines() if re.match(r"\| (\d\.\d|5|9\.\d+)", line)]
    sections = [line.split("|")[1].strip() for line in rows]
    assert [f"9.{number}" for number in range(1, 26)] == [section for section in sections if section.startswith("9.")]
    assert {section[0] for section in sections} == set("234569")
    assert all(line.rstrip().endswith("|") and len(line.split("|")) == 6 for line in rows)
    assert all(line.split("|")[4].strip() for line in rows)
