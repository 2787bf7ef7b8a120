"""Names in metrics (TENANCY OB-2): few, steady, and with sums that are exact."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from server.telemetry.ranking import OTHER, Ranking, TenantCounter

_steps = st.lists(
    st.one_of(
        st.tuples(st.just("inc"), st.sampled_from([f"t{n}" for n in range(12)]), st.integers(1, 50)),
        st.just(("review", "", 0)),
    ),
    max_size=120,
)


@given(_steps)
def test_sums_are_exact_and_nothing_goes_backwards(steps: list[tuple[str, str, int]]) -> None:
    """OB-2: whoever is named, the counts of all series sum up to the total, and `other` only grows."""
    ranking = Ranking(top=3, most=6)
    counter = TenantCounter(ranking)
    total, other = 0, 0
    named: dict[str, int] = {}
    for step, app_id, by in steps:
        if step == "review":
            ranking.review()
        else:
            ranking.note(app_id, by)
            counter.inc(app_id, ("create",), by)
            total += by
        samples = {id: count for id, _, count in counter.samples()}
        assert sum(samples.values()) == total == counter.totals.get(("create",), 0)
        assert len(samples) <= 4
        assert samples.get(OTHER, 0) >= other
        other = samples.get(OTHER, 0)
        # A name that comes back begins anew, as a counter does after a restart; one that stays only grows.
        assert all(samples.get(id, 0) >= count for id, count in named.items() if id in ranking.named)
        named = {id: samples.get(id, 0) for id in ranking.named}


def test_the_busiest_are_named_and_places_do_not_change_for_little() -> None:
    """OB-2: with hysteresis."""
    ranking = Ranking(top=2)
    for app_id, weight in (("a", 100), ("b", 50), ("c", 55)):
        ranking.note(app_id, weight)
    assert ranking.named == {"a", "b"}
    ranking.review()
    assert ranking.named == {"a", "b"}, "a little busier is not enough"
    ranking.note("c", 100)
    ranking.review()
    assert ranking.named == {"a", "c"}


def test_the_number_of_tenants_that_are_counted_is_bounded() -> None:
    """OB-2: those that are dropped stay in the sum."""
    ranking = Ranking(top=2, most=10)
    counter = TenantCounter(ranking)
    for number in range(1000):
        ranking.note(f"t{number}")
        counter.inc(f"t{number}")
    assert len(counter._by_tenant) <= 11
    assert sum(count for _, _, count in counter.samples()) == 1000


def test_an_app_that_is_called_other_is_one_of_them() -> None:
    """OB-2: two series under one name would be refused by whoever reads them."""
    ranking = Ranking(top=3)
    counter = TenantCounter(ranking)
    for app_id in (OTHER, "acme"):
        ranking.note(app_id, 5)
        counter.inc(app_id, ("create",), 5)
    ranking.review()
    assert [*counter.samples()] == [("acme", ("create",), 5), (OTHER, ("create",), 5)]
