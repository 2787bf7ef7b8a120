"""PT-1, LIMITS T1, T2: some of the cross-tenant probes over the dedicated models, always; all of them by `-m models`."""

from __future__ import annotations

import pytest

from tests.security.test_cross_tenant import test_events_stay_at_home, test_ids_of_others_are_ids_of_nothing
from tests.security.test_interleavings import test_calls_side_by_side_keep_their_sides

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.shared_only("goes over both other models itself"),
]

__all__ = [
    "test_calls_side_by_side_keep_their_sides",
    "test_events_stay_at_home",
    "test_ids_of_others_are_ids_of_nothing",
]
