"""TENANCY section 4 and 10.2: the service `settings`, over both transports."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from server.main import Roost
from services.cache import Cache
from services.control.sagas import Work
from tests.integration.control.managers import delete, make
from tests.integration.settings.people import (
    READ,
    TRANSPORTS,
    UPDATE,
    administrator,
    configure,
    effective,
    new_app,
    operator,
    own,
    patch,
    person,
    refusal,
    tenant_of,
)
from tests.support.client import connect, fresh
from tests.support.placed import database_of
from tests.support.roost import CONTROL_PLANE

pytestmark = pytest.mark.asyncio(loop_scope="module")
each_transport = pytest.mark.parametrize("transport", TRANSPORTS)
LOGO, TERMS = "https://hub.example/logo.png", "https://hub.example/{app_id}/terms"


async def say(roost: Roost, **values: Any) -> None:
    """The control plane's own values become exactly these."""
    async with operator(roost) as admin:
        await patch(admin, dict.fromkeys(("branding", "support", "links", "locale", "shop", "custom", "sender_name")))
        await patch(admin, values)


async def note(**progress: Any) -> None:
    """Nobody watches."""


async def heard(caller: Any) -> list[Any]:
    """What a socket was told of settings and has not taken yet."""
    return [event.record for event in await caller.take_events() if event.name == "settings patched"]


async def log_of(roost: Roost, app: str, event: str) -> list[Any]:
    """The entries of an app's audit log."""
    await roost.backend.audit.settled()
    collection = roost.backend.isolation.collection(await tenant_of(roost, app), "audit_log")
    return await collection.find({"event": event}, sort=[("at", 1)])


async def test_settings_in_memory_have_their_weight(served: Roost, monkeypatch: pytest.MonkeyPatch) -> None:
    """CK-2: whoever changes his settings again and again takes no more memory than an app may."""
    app, settings, cache = await new_app(served), served.backend.inheritance.effective, Cache(size=10)
    monkeypatch.setattr(settings, "_cache", cache)
    assert await settings.value(await tenant_of(served, app), "locale.language") == "en"
    assert [*cache.shelves.of(app)] == []


@each_transport
async def test_a_value_is_own_or_inherited_or_built_in(served: Roost, transport: str) -> None:
    """RF-1, RF-4: presence decides: an empty text is a value, null goes back to inheriting; each value tells its source."""
    await say(served, branding={"logo_url": LOGO, "tagline": "of the hub"})
    async with administrator(served, await new_app(served), transport) as ada:
        before = await effective(ada)
        assert before["branding"]["logo_url"] == {"value": LOGO, "source": "control_plane"}
        assert before["branding"]["primary_color"] == {"value": "#1f6feb", "source": "default"}
        await patch(ada, {"branding": {"tagline": ""}})
        assert (await effective(ada))["branding"]["tagline"] == {"value": "", "source": "own"}
        await patch(ada, {"branding": {"tagline": None}})
        assert (await effective(ada))["branding"]["tagline"] == {"value": "of the hub", "source": "control_plane"}
        await patch(ada, {"branding": {"tagline": "mine", "primary_color": "#000000"}, "locale": {"language": "de"}})
        await patch(ada, {"branding": None})
        after = await effective(ada)
        assert {one["source"] for one in after["branding"].values()} == {"control_plane", "default"}
        assert after["locale"]["language"] == {"value": "de", "source": "own"}


@each_transport
async def test_writes_store_own_values_alone(served: Roost, transport: str) -> None:
    """RF-4: read what holds, patch one field, and the app's own document gains exactly that field."""
    await say(served, branding={"logo_url": LOGO})
    app = await new_app(served)
    async with administrator(served, app, transport) as ada:
        assert (await own(ada)).keys() == {"_id", "settings_rev", "updated_at"}
        await effective(ada)
        answer = await patch(ada, {"support": {"url": "https://app.example/help"}})
        assert answer == await own(ada)
        kept = database_of(served, app)["settings"]
        (stored,) = [one async for one in kept.find({"app_id": app})]
        assert stored["values"] == {"support": {"url": "https://app.example/help"}}
        assert answer["settings_rev"] == stored["rev"] == 1


@each_transport
async def test_objects_are_merged_at_any_depth(served: Roost, transport: str) -> None:
    """10.2 settings: deep merge; `null` resets."""
    async with administrator(served, await new_app(served), transport) as ada:
        await patch(ada, {"custom": {"theme": {"dark": True, "size": 3}, "beta": [1, 2]}})
        await patch(ada, {"custom": {"theme": {"size": None, "font": "serif"}}})
        assert (await own(ada))["custom"] == {"theme": {"dark": True, "font": "serif"}, "beta": [1, 2]}
        await patch(ada, {"custom": {"theme": None, "beta": None}})
        assert (await effective(ada))["custom"] == {"value": {}, "source": "own"}
        await patch(ada, {"custom": None})
        assert (await effective(ada))["custom"]["source"] == "default"


async def test_selection_decides_what_is_inherited(served: Roost) -> None:
    """RF-2: inherit, include, exclude, which wins; the control plane's default, overridden for one app; and never some keys."""
    await say(
        served,
        branding={"logo_url": LOGO, "tagline": "of the hub"},
        links={"terms": TERMS},
        sender_name="The hub",
        shop={"payee": "hub", "audience": "urn:hub", "currency": "CHF"},
    )
    app = await new_app(served)
    async with administrator(served, app) as ada:

        async def inherited() -> set[str]:
            found = await effective(ada)
            return {
                f"{group}.{name}"
                for group in ("branding", "links", "shop")
                for name, one in found[group].items()
                if one["source"] == "control_plane"
            }

        assert await inherited() == {"branding.logo_url", "branding.tagline", "links.terms", "shop.currency"}
        assert (await effective(ada))["sender_name"] == {"value": None, "source": "default"}
        await configure(
            served, app, inheritance={"include": ["branding", "sender_name"], "exclude": ["branding.tagline"]}
        )
        assert await inherited() == {"branding.logo_url"}
        assert (await effective(ada))["sender_name"]["source"] == "default"
        await configure(served, app, inheritance={"inherit": False})
        assert await inherited() == set()
        await configure(served, CONTROL_PLANE, inheritance={"inherit": False})
        try:
            await configure(served, app, inheritance={})
            assert await inherited() == set()
            await configure(served, app, inheritance={"inherit": True, "include": ["links"]})
            assert await inherited() == {"links.terms"}
        finally:
            await configure(served, CONTROL_PLANE, inheritance={})


@each_transport
async def test_managers_of_the_platform_say_what_is_inherited(served: Roost, transport: str) -> None:
    """Section 4: `inheritance` is overridable for an app by platform managers, by the service `tenants`."""
    await say(served, branding={"tagline": "of the hub"})
    app = await new_app(served)
    async with operator(served, transport) as admin, administrator(served, app, transport) as ada:
        assert (await effective(ada))["branding"]["tagline"]["source"] == "control_plane"
        changed = await admin.call("patch", "tenants", app, {"inheritance": {"exclude": ["branding"]}})
        assert changed["inheritance"] == {"exclude": ["branding"]}
        await served.catalogue.refresh((await served.backend.tenants.get(app)) or await tenant_of(served, app))
        assert (await effective(ada))["branding"]["tagline"]["source"] == "default"
        mistakes: list[Any] = [{"mode": "sometimes"}, {"include": ["Not A Key"]}, {"excludes": []}, []]
        for wrong in mistakes:
            assert (await refusal(admin, "patch", "tenants", app, {"inheritance": wrong})).code == 400
        assert (await refusal(ada, "patch", "tenants", app, {"inheritance": {}})).code in (403, 404)


async def test_transforms_are_applied_and_never_give_the_raw_value(
    served: Roost, capsys: pytest.CaptureFixture[str]
) -> None:
    """RF-3: select, transform, then the app's own; what fails means the built-in default and a line in the log."""
    await say(served, links={"terms": TERMS}, branding={"tagline": "marker-raw"}, shop={"currency": "CHF"})
    app = await new_app(served)
    wanted = {"links": "app_id", "branding.tagline": "fail", "shop.currency": "count", "locale": "unknown"}
    await configure(served, app, inheritance={"transforms": wanted})
    async with administrator(served, app) as ada:
        found = await effective(ada)
        assert found["links"]["terms"] == {"value": f"https://hub.example/{app}/terms", "source": "control_plane"}
        assert found["branding"]["tagline"] == {"value": "", "source": "default"}
        assert found["shop"]["currency"] == {"value": "EUR", "source": "default"}, "a number is none"
        await patch(ada, {"links": {"terms": "https://own.example"}})
        assert (await effective(ada))["links"]["terms"] == {"value": "https://own.example", "source": "own"}
    said = capsys.readouterr()
    assert "could not be transformed" in said.out + said.err
    assert "marker-raw" not in said.out + said.err


async def test_a_change_on_either_side_holds_at_once(served: Roost) -> None:
    """RF-14: what is kept in memory is kept by both revisions; neither the app's nor the control plane's old value is read."""
    await say(served, branding={"tagline": "one"})
    app, other = await new_app(served), await new_app(served)
    async with administrator(served, app) as ada, administrator(served, other) as bob, operator(served) as admin:
        for round in range(3):
            await patch(admin, {"branding": {"tagline": f"hub {round}"}})
            for caller in (ada, bob):
                assert (await effective(caller))["branding"]["tagline"]["value"] == f"hub {round}"
            await patch(ada, {"branding": {"tagline": f"own {round}"}})
            assert (await effective(ada))["branding"]["tagline"]["value"] == f"own {round}"
            assert (await effective(bob))["branding"]["tagline"]["value"] == f"hub {round}"
            await patch(ada, {"branding": {"tagline": None}})
    before = await tenant_of(served, app)
    assert before.settings_rev == 6
    reads = served.backend.inheritance.effective
    first = await reads.of(before)
    first["custom"].value["spoilt"] = True
    assert (await reads.of(before))["custom"].value == {}, "who reads cannot change what is kept"


async def test_a_new_app_may_start_with_a_copy(served: Roost) -> None:
    """RF-5: `mode: copy` gives the selected values, transformed, as the app's own; later changes are not for it."""
    await say(served, branding={"logo_url": LOGO, "tagline": "first"}, links={"terms": TERMS}, sender_name="The hub")
    rules = {"mode": "copy", "exclude": ["branding.logo_url"], "transforms": {"links": "app_id"}}
    await configure(served, CONTROL_PLANE, inheritance=rules)
    try:
        app = await new_app(served)
        await say(served, branding={"tagline": "second"}, support={"url": "https://hub.example/help"})
        async with administrator(served, app) as ada:
            mine = await own(ada)
            assert (mine["branding"], mine["links"]) == (
                {"tagline": "first"},
                {"terms": f"https://hub.example/{app}/terms"},
            )
            found = await effective(ada)
            assert found["support"]["url"]["source"] == "default"
            assert "sender_name" not in mine
            await patch(ada, {"branding": {"tagline": None}})
            assert (await effective(ada))["branding"]["tagline"] == {"value": "", "source": "default"}
            # The step ensures: it may run again, and overwrites nothing.
            operation = await served.backend.control.operations.latest(app, "provision")
            assert operation is not None
            assert "settings" in [step["name"] for step in operation.steps]
            step = served.backend.control.sagas.step("provision", "settings")
            assert step is not None
            await step.ensure(Work(operation, await tenant_of(served, app), note))
            assert (await own(ada))["settings_rev"] == 2
    finally:
        await configure(served, CONTROL_PLANE, inheritance={})


@each_transport
async def test_who_may_see_and_change_them(served: Roost, transport: str) -> None:
    """10.2 settings: `read/update:tenant_settings`; a field may ask for a permission of its own; get and patch alone."""
    app = await new_app(served)
    async with (
        person(served, app, transport=transport) as nobody,
        person(served, app, READ, transport=transport) as reader,
        administrator(served, app, transport) as ada,
        person(served, app, READ, UPDATE, "read:clients", "update:clients", transport=transport) as merchant,
    ):
        assert (await refusal(nobody, "get", "settings", "current")).code == 403
        assert (await refusal(nobody, "patch", "settings", "current", {})).code == 403
        await own(reader)
        assert (await refusal(reader, "patch", "settings", "current", {})).code == 403
        assert (await refusal(ada, "patch", "settings", "current", {"shop": {"margin": 3}})).code == 403
        await patch(merchant, {"shop": {"margin": 3, "currency": "USD"}})
        assert (await own(merchant))["shop"] == {"margin": 3, "currency": "USD"}
        assert (await own(ada))["shop"] == {"currency": "USD"}
        assert "margin" not in (await effective(ada))["shop"]
        for id in (app, "settings", "current"):
            assert (await ada.call("get", "settings", id))["settings_rev"] == 1
        assert (await refusal(ada, "get", "settings", CONTROL_PLANE)).code == 404
        assert (await refusal(ada, "find", "settings")).code == 405
        assert (await refusal(ada, "create", "settings", {})).code == 405
        assert (await refusal(ada, "remove", "settings", "current")).code == 405


BAD: list[Any] = [
    {"brand": {"logo_url": LOGO}},
    {"branding": {"logo": LOGO}},
    {"branding": LOGO},
    {"branding": {"logo_url": "http://hub.example"}},
    {"branding": {"primary_color": 3}},
    {"settings_rev": 3},
    {"_id": "x"},
    {"app_id": "acme"},
    {"custom": {"large": "x" * 70_000}},
    [],
    "text",
]


@each_transport
async def test_bad_changes_change_nothing(served: Roost, transport: str) -> None:
    """TC-12: the whole is checked before anything is written."""
    async with administrator(served, await new_app(served), transport) as ada:
        for data in BAD:
            error = await refusal(ada, "patch", "settings", "current", data)
            assert error.code == 400, data
        mixed = {"locale": {"language": "de"}, "branding": {"primary_color": "red"}}
        error = await refusal(ada, "patch", "settings", "current", mixed)
        assert [fault["path"] for fault in error.wire["errors"]] == ["branding.primary_color"]
        for query in ({"$effective": True}, {"settings_rev": -1}, {"$dry_run": "perhaps"}, {"$where": 1}):
            assert (await refusal(ada, "patch", "settings", "current", {}, query)).code == 400
        assert (await own(ada))["settings_rev"] == 0


@each_transport
async def test_nobody_writes_over_what_he_has_not_seen(served: Roost, transport: str) -> None:
    """TC-12: `settings_rev` makes a patch fail with 409; without it, patches of different fields all count."""
    app = await new_app(served)
    async with administrator(served, app, transport) as ada:
        rev = (await own(ada))["settings_rev"]
        assert (await patch(ada, {"locale": {"language": "de"}}, settings_rev=rev))["settings_rev"] == rev + 1
        error = await refusal(
            ada, "patch", "settings", "current", {"locale": {"language": "fr"}}, {"settings_rev": rev}
        )
        assert error.code == 409
        assert (await own(ada))["locale"] == {"language": "de"}
        changes = [{"custom": {"a": 1}}, {"shop": {"currency": "USD"}}, {"links": {"terms": "https://own.example"}}]
        await asyncio.gather(*(patch(ada, change) for change in changes))
        mine = await own(ada)
        assert (mine["custom"], mine["shop"]["currency"]) == ({"a": 1}, "USD")
        assert mine["links"]["terms"] == "https://own.example"
        assert mine["settings_rev"] == rev + 4


@each_transport
async def test_a_dry_run_checks_and_writes_nothing(served: Roost, transport: str) -> None:
    """TC-12: `$dry_run`."""
    app = await new_app(served)
    async with administrator(served, app, transport) as ada:
        seen = await patch(ada, {"locale": {"language": "de"}}, **{"$dry_run": True})
        assert (seen["locale"], seen["settings_rev"]) == ({"language": "de"}, 0)
        assert (await own(ada))["settings_rev"] == 0
        query = {"$dry_run": True}
        assert (await refusal(ada, "patch", "settings", "current", {"locale": {"language": 3}}, query)).code == 400
        assert await log_of(served, app, "settings-changed") == []


async def test_changes_are_told_to_the_app_alone(served: Roost) -> None:
    """10.2, RF-9: events reach those of the app who may read settings; no other app, and no setting that needs more."""
    app, other = await new_app(served), await new_app(served)
    async with (
        person(served, app, READ, UPDATE, "update:clients", transport="socket") as ada,
        person(served, app, READ, "read:clients", transport="socket") as reader,
        person(served, app, transport="socket") as nobody,
        connect(served, app) as stranger,
        administrator(served, other, "socket") as abroad,
        operator(served, "socket") as admin,
    ):
        await patch(ada, {"shop": {"margin": 7, "currency": "USD"}})
        (told,) = await heard(reader)
        assert told["shop"] == {"currency": "USD"}
        for caller in (nobody, stranger, abroad, admin):
            assert await heard(caller) == []
        await patch(admin, {"branding": {"tagline": fresh("tagline")}})
        assert len(await heard(admin)) == 1
        for caller in (reader, abroad):
            assert await heard(caller) == []


async def test_changes_stand_in_the_audit_log(served: Roost) -> None:
    """TC-12, OB-5: who changed what from what to what; the value of a setting that not all may see is not told."""
    app = await new_app(served)
    async with person(served, app, READ, UPDATE, "update:clients") as ada:
        await patch(ada, {"shop": {"margin": 4711, "currency": "USD"}})
        await patch(ada, {"shop": {"currency": "CHF"}})
        await patch(ada, {"shop": {"currency": "CHF"}})
    first, second = await log_of(served, app, "settings-changed")
    assert first["actor_id"]
    assert {"setting": "shop.margin", "before": None, "after": "(not shown)"} in first["details"]["changes"]
    assert second["details"]["changes"] == [{"setting": "shop.currency", "before": "USD", "after": "CHF"}]
    assert "4711" not in json.dumps([first, second], default=str)


async def test_plug_ins_read_what_holds(served: Roost) -> None:
    """RF-1: `app.setting_values.value(tenant, key)`."""
    await say(served, shop={"currency": "CHF"})
    app = await new_app(served)
    values = served.app.setting_values
    assert values is not None
    assert await values.value(await tenant_of(served, app), "shop.currency") == "CHF"
    with pytest.raises(LookupError):
        await values.value(await tenant_of(served, app), "shop.nothing")


async def test_settings_go_with_their_app(served: Roost) -> None:
    """CP-28: nothing of them is left."""
    id = fresh("app")
    await make(served, id)
    async with administrator(served, id) as ada:
        await patch(ada, {"locale": {"language": "de"}})
    kept = database_of(served, id)["settings"]
    assert await kept.count_documents({"app_id": id}) == 1
    await delete(served, id)
    assert await kept.count_documents({"app_id": id}) == 0
