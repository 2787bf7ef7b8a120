"""GU-4, GU-5: the guide says plainly who keeps the apps apart."""

from __future__ import annotations

from pathlib import Path

GUIDE = Path(__file__).parents[3] / "docs" / "guide"


def test_the_guide_says_what_is_enforced_by_whom() -> None:
    text = " ".join((GUIDE / "isolation.md").read_text().split())
    assert "**`shared` is enforced by the application.** MongoDB has no row-level security" in text
    assert "MongoDB's own guidance says the same of shared collections" in text
    assert "whoever has the database's credentials sees everybody's records" in text


def test_the_guide_has_the_arithmetic_of_pools() -> None:
    """PO-4: the formula and the numbers of the settings' defaults."""
    text = (GUIDE / "operating.md").read_text()
    assert "processes x sum over clients (servers x (pool + 2))" in text
    assert f"{8 * 3 * (50 + 2):,}" in text
    assert f"{200 * 8 * 3 * (5 + 2):,}" in text
