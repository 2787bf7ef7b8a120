"""A plug-in that goes through other services of the tenant it is called in, and lets everybody else on in between."""

from __future__ import annotations

import asyncio
import random
from typing import Any

from hooks.context import Params, Record
from hooks.internal import Internal
from hooks.tenant import current_tenant
from services.application import Application
from services.base import Service

PATH = "wanderer"
_chance = random.Random(11)


class Wanderer(Service):
    """Writes and reads on the caller's behalf, and tells which tenant it was in at each step."""

    def __init__(self, app: Application) -> None:
        self._app = app

    async def create(self, data: Any, params: Params) -> Record:
        """Takes `{text}`; `{tenants, user, texts}`."""
        calls, tenants = Internal(self._app, params), [current_tenant().id]
        for step in range(3):
            await asyncio.sleep(_chance.random() / 200)
            tenants.append(current_tenant().id)
            await calls.create("notes", {"text": f"{data['text']} {step}"})
        found = await asyncio.gather(*(self._look(calls) for _ in range(2)))
        texts = [note["text"] for notes, _ in found for note in notes]
        tenants += [tenant for _, tenant in found]
        return {"tenants": tenants, "user": None if params.user is None else params.user["email"], "texts": texts}

    async def _look(self, calls: Internal) -> tuple[list[Record], str]:
        await asyncio.sleep(_chance.random() / 200)
        return await calls.find("notes", {"$limit": 1000}), current_tenant().id


def configure(app: Application) -> None:
    """What Roost calls."""
    app.use(PATH, Wanderer(app), methods=("create",), rules="authenticated")
