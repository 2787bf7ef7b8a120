from __future__ import annotations

import pytest

from services.database.schema import Index


@pytest.mark.parametrize("keys", [(), (("username", 1),), (("username", 1), ("app_id", 1))])
def test_an_index_that_does_not_begin_with_app_id_is_refused(keys: tuple[tuple[str, int], ...]) -> None:
    with pytest.raises(ValueError, match="app_id"):
        Index(keys)


def test_a_unique_index_is_partial_unless_every_document_has_the_fields() -> None:
    keys = (("app_id", 1), ("mail", 1))
    assert Index(keys, unique=True).model().document["partialFilterExpression"] == {"mail": {"$exists": True}}
    assert "partialFilterExpression" not in Index(keys, unique=True, complete=True).model().document
    assert "unique" not in Index(keys).model().document
    assert len({Index(keys).name, Index(keys, unique=True).name, Index(keys, unique=True, complete=True).name}) == 3
