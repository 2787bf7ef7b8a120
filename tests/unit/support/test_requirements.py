"""Every requirement is proved by a test that quotes it, or left out on purpose with its reason."""

from __future__ import annotations

from tests.support import requirements
from tests.support.requirements import REQUIREMENTS, ROOT, gaps, quoted


def test_no_requirement_is_without_a_test() -> None:
    wanted, omitted = requirements.requirements(REQUIREMENTS.read_text(encoding="utf-8"))
    assert len(wanted) > 150
    assert all(reason for reason in omitted.values())
    assert gaps(wanted, omitted, requirements.tests_by_id(ROOT / "tests")) == []


def test_ids_are_found_in_names_and_sentences() -> None:
    assert [*quoted("test_cp_10_and_more: TK-3, CA-1..3; not XCP-5, nor CP-")] == [
        "CP-10",
        "TK-3",
        "CA-1",
        "CA-2",
        "CA-3",
    ]
    assert gaps({"CP-1": "", "CP-2": "", "CP-3": ""}, {"CP-2": "no"}, {"CP-3": []}) == ["CP-1"]
