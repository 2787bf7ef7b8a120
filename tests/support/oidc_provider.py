"""A small OpenID provider, real as far as the protocol goes: discovery, sign-in with PKCE, codes that work once, signed tokens.

It signs everybody in at once, as the person whom `person` names, and remembers what it was asked.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote_plus, urlencode

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.algorithms import ECAlgorithm, RSAAlgorithm

CLIENT = "roost client/1"
SECRET = "canary-client-secret&=+%"
_RSA = rsa.generate_private_key(65537, 2048)
_EC = ec.generate_private_key(ec.SECP256R1())
JWKS = {
    "keys": [
        {**RSAAlgorithm.to_jwk(_RSA.public_key(), as_dict=True), "kid": "RS256", "use": "sig"},
        {**ECAlgorithm.to_jwk(_EC.public_key(), as_dict=True), "kid": "ES256", "alg": "ES256"},
    ]
}
KEYS: dict[str, Any] = {"RS256": _RSA, "ES256": _EC}


@dataclass(slots=True)
class OpenIdProvider:
    """What it is like; a test changes it as it needs."""

    url: str = ""
    secret: str | None = SECRET
    person: str = "ada"
    algorithm: str = "ES256"
    claims: dict[str, Any] = field(default_factory=dict)
    """Over those of a good ID token; None leaves one out."""
    description: dict[str, Any] = field(default_factory=dict)
    """Over what it says of itself."""
    answer: dict[str, str] = field(default_factory=dict)
    """Over what a browser is sent back with."""
    is_down: bool = False
    fault: tuple[int, Any] | None = None
    """How the token endpoint answers instead."""
    asked: list[str] = field(default_factory=list)
    forms: list[dict[str, str]] = field(default_factory=list)
    """What the token endpoint was sent."""
    _codes: dict[str, dict[str, str]] = field(default_factory=dict)
    _tokens: dict[str, str] = field(default_factory=dict)

    def code(self, query: dict[str, str]) -> str:
        """A code for a sign-in that was asked for like this."""
        code = secrets.token_urlsafe(16)
        self._codes[code] = {**query, "person": self.person}
        return code

    async def describe(self, request: web.Request) -> web.Response:
        self._note(request)
        found = {
            "issuer": self.url,
            "authorization_endpoint": f"{self.url}/authorize?tenant=1",
            "token_endpoint": f"{self.url}/token",
            "jwks_uri": f"{self.url}/keys",
            "authorization_response_iss_parameter_supported": True,
            **self.description,
        }
        return web.json_response({name: value for name, value in found.items() if value is not None})

    async def keys(self, request: web.Request) -> web.Response:
        self._note(request)
        return web.json_response(JWKS)

    async def authorize(self, request: web.Request) -> web.Response:
        """Signs in and sends back, as RFC 6749 4.1.2 and RFC 9207 have it."""
        self._note(request)
        query = dict(request.query)
        assert query.pop("tenant", "1") == "1", "what an endpoint's address has in its query stays there"
        assert query["response_type"] == "code"
        assert query["client_id"] == CLIENT
        assert query["code_challenge_method"] == "S256"
        back = {"code": self.code(query), "state": query["state"], "iss": self.url, **self.answer}
        back = {name: value for name, value in back.items() if value}
        return web.Response(status=302, headers={"Location": f"{query['redirect_uri']}?{urlencode(back)}"})

    async def token(self, request: web.Request) -> web.Response:
        """Exchanges a code, once, for whom it was given to, with the verifier of its challenge."""
        self._note(request)
        form = {name: values[0] for name, values in parse_qs((await request.read()).decode()).items()}
        self.forms.append(form)
        if self.fault is not None:
            status, body = self.fault
            return (
                web.Response(status=status, body=body)
                if isinstance(body, bytes)
                else web.json_response(body, status=status)
            )
        if not self._knows(request, form):
            return web.json_response({"error": "invalid_client", "error_description": SECRET}, status=401)
        begun = self._codes.pop(form.get("code", ""), None)
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        if (
            begun is None
            or begun["redirect_uri"] != form.get("redirect_uri")
            or begun["code_challenge"] != base64.urlsafe_b64encode(digest).decode().rstrip("=")
        ):
            return web.json_response({"error": "invalid_grant"}, status=400)
        access = secrets.token_urlsafe(16)
        self._tokens[access] = begun["person"]
        answer = {"access_token": access, "token_type": "Bearer", "expires_in": 60}
        if "openid" in begun.get("scope", ""):
            answer["id_token"] = self._sign(begun)
        return web.json_response(answer)

    async def userinfo(self, request: web.Request) -> web.Response:
        self._note(request)
        person = self._tokens.get(request.headers.get("Authorization", "").removeprefix("Bearer "))
        if person is None:
            return web.json_response({}, status=401)
        return web.json_response({"id": 7, "login": person, **self.claims})

    def _knows(self, request: web.Request, form: dict[str, str]) -> bool:
        if self.secret is None:
            return form.get("client_id") == CLIENT and "client_secret" not in form
        header = request.headers.get("Authorization", "")
        if header:
            named = base64.b64decode(header.removeprefix("Basic ")).decode().split(":")
            return [unquote_plus(part) for part in named] == [CLIENT, self.secret]
        return (form.get("client_id"), form.get("client_secret")) == (CLIENT, self.secret)

    def _sign(self, begun: dict[str, str]) -> str:
        now = int(time.time())
        claims = {
            "iss": self.url,
            "aud": CLIENT,
            "sub": begun["person"],
            "iat": now,
            "exp": now + 60,
            "nonce": begun.get("nonce"),
            **self.claims,
        }
        told = {name: value for name, value in claims.items() if value is not None}
        return jwt.encode(told, KEYS[self.algorithm], self.algorithm, {"kid": self.algorithm})

    def _note(self, request: web.Request) -> None:
        self.asked.append(request.path)
        if self.is_down:
            raise web.HTTPServiceUnavailable


@asynccontextmanager
async def openid_provider() -> AsyncIterator[OpenIdProvider]:
    """A provider on this machine, at a free port."""
    found = OpenIdProvider()
    app = web.Application()
    app.router.add_get("/.well-known/openid-configuration", found.describe)
    app.router.add_get("/keys", found.keys)
    app.router.add_get("/authorize", found.authorize)
    app.router.add_post("/token", found.token)
    app.router.add_get("/userinfo", found.userinfo)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        found.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield found
    finally:
        await runner.cleanup()
