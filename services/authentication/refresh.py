"""The refresh strategy: a refresh token proves that a session still goes on, and is replaced by the next one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hooks.context import Params
from services.authentication.ledger import Ledger
from services.authentication.strategy import Proof
from services.authentication.tokens import Tokens


class RefreshStrategy:
    """Takes `{refreshToken}`. Each token works once; using one again ends the session, at whoever's hands it is."""

    def __init__(self, ledger: Ledger, tokens: Tokens) -> None:
        self._ledger = ledger
        self._tokens = tokens

    async def authenticate(self, data: Mapping[str, Any], params: Params) -> Proof:
        """The session's user, by id alone, and the session with its new refresh token.

        Raises:
            NotAuthenticated: `Invalid refresh token`, whatever is wrong with it.
        """
        session = await self._ledger.rotate(params, data.get("refreshToken"), self._tokens.lifetime(params.tenant))
        return Proof({"_id": session.user_id}, session=session)
