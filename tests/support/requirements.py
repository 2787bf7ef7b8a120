"""Which test quotes which requirement: `python -m tests.support.requirements` prints the table, and fails on a gap.

Requirements are the ids in `docs/requirements.md`. A test quotes one in its name, its docstring, or in the docstring of its
class or module.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

ROOT = Path(__file__).parents[2]
REQUIREMENTS = ROOT / "docs" / "requirements.md"
OMISSIONS = "## Left out on purpose"
_ROW = re.compile(r"^\| ([A-Z]{2}-\d+) \| (.+?) \|$", re.MULTILINE)
_QUOTED = re.compile(r"(?<![A-Z0-9])([A-Z]{2})[-_](\d+)(?:\.\.(\d+))?(?!\d)")


def requirements(text: str) -> tuple[dict[str, str], dict[str, str]]:
    """What is required by id, and what is left out on purpose, with its reason."""
    kept, _, omitted = text.partition(OMISSIONS)
    return dict(_ROW.findall(kept)), dict(_ROW.findall(omitted))


def quoted(text: str) -> Iterator[str]:
    """The ids that a name or docstring quotes: `CP-10`, `cp_10`, or a range such as `CA-1..6`."""
    for family, first, last in _QUOTED.findall(text.upper()):
        for number in range(int(first), int(last or first) + 1):
            yield f"{family}-{number}"


def tests_by_id(folder: Path) -> dict[str, list[str]]:
    """The tests below a folder by the ids that they quote."""
    found: dict[str, list[str]] = {}
    for file in sorted(folder.rglob("test_*.py")):
        place = str(file.relative_to(folder.parent))
        tree = ast.parse(file.read_text(encoding="utf-8"))
        for name, words in _tests(tree, ast.get_docstring(tree) or ""):
            for id in dict.fromkeys(quoted(words)):
                found.setdefault(id, []).append(f"{place}::{name}")
    return found


def gaps(wanted: Mapping[str, str], omitted: Mapping[str, str], found: Mapping[str, object]) -> list[str]:
    """The ids that no test quotes and that are not left out on purpose."""
    return [id for id in wanted if id not in found and id not in omitted]


def _tests(parent: ast.Module | ast.ClassDef, around: str) -> Iterator[tuple[str, str]]:
    for node in parent.body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name.startswith("test_"):
            yield node.name, f"{node.name} {ast.get_docstring(node) or ''} {around}"
        elif isinstance(node, ast.ClassDef):
            for name, words in _tests(node, f"{around} {ast.get_docstring(node) or ''}"):
                yield f"{node.name}::{name}", words


def main() -> int:
    """Writes the table out; the exit code is 1 when a requirement has no test."""
    wanted, omitted = requirements(REQUIREMENTS.read_text(encoding="utf-8"))
    found = tests_by_id(ROOT / "tests")
    for id, what in wanted.items():
        quoting = found.get(id, [])
        shown = f"left out: {omitted[id]}" if id in omitted else "; ".join(quoting[:2]) or "NO TEST"
        more = f" (+{len(quoting) - 2})" if len(quoting) > 2 else ""
        sys.stdout.write(f"{id:6} {what}\n       {shown}{more}\n")
    missing = gaps(wanted, omitted, found)
    sys.stdout.write(f"\n{len(wanted)} requirements, {len(omitted)} left out, {len(missing)} without a test\n")
    sys.stdout.write("".join(f"Without a test: {id}\n" for id in missing))
    return 1 if missing else 0


if __name__ == "__main__":
    sys.exit(main())
