"""The correctness check that a server passes before it is measured."""

from __future__ import annotations

import asyncio
import subprocess

import orjson

from bench.client import Answer
from bench.dialects import PASSWORD
from bench.parse import Http, LiveQuery, RestError, request, where
from bench.servers import PEERS, Server, install

ONE, TWO = "check-one", "check-two"
CLIENT = PEERS / "client"
CHECK_SECONDS = 60.0
PATIENCE = 5.0


class CheckError(Exception):
    """A server does not do what it must; the message says what."""


def check(server: Server) -> None:
    """
    Raises:
        CheckError: the server failed.
    """
    if server.kind.dialect == "parse":
        try:
            asyncio.run(check_parse(server.port))
        except (RestError, ConnectionError, TimeoutError) as error:
            raise CheckError(f"{server.kind.title}: {error!r}") from error
        return
    install(CLIENT)
    command = ("node", str(CLIENT / "check.js"), f"http://127.0.0.1:{server.port}", ONE, TWO)
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=CHECK_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        raise CheckError(f"{server.kind.title}: the check took more than {CHECK_SECONDS:.0f} s") from error
    if done.returncode:
        raise CheckError(f"{server.kind.title}: {done.stderr}\n{server.last_words()}")


async def check_parse(port: int) -> None:
    """Parse Server's own check, by REST and LiveQuery: the same questions as the official Feathers client asks.

    Raises:
        CheckError: an answer or an event was not as it must be.
    """
    http = await Http.open(port)
    tokens = []
    for tenant in (ONE, TWO):
        user = {"username": f"ann@{tenant}", "password": PASSWORD, "app": tenant}
        tokens.append((await http.request(request("POST", "/users", body=user)))["sessionToken"])
    one, two = tokens
    heard: asyncio.Queue[tuple[str, bytes]] = asyncio.Queue()
    ears = [await LiveQuery.open(port, token, on_event=_ear(heard, token)) for token in (one, two)]
    for ear in ears:
        await ear.subscribe("Message", {"app": ONE})

    path = "/classes/Message"
    data = {"room": "hall", "n": 1, "text": "hello", "app": TWO}
    made = (await http.request(request("POST", path, one, data)))["objectId"]
    record = f"{path}/{made}"
    await _refused(http, request("GET", record), 400, 401, 403, 404)
    await _refused(http, request("GET", record, two), 404)
    await _refused(http, request("PUT", record, two, {"text": "mine"}), 404)
    await _refused(http, request("DELETE", record, two), 404)
    _must((await http.request(request("GET", record, one)))["app"] == ONE, "the writer's app is not on the record")
    for query in ({}, {"app": ONE}):
        page = await http.request(request("GET", f"{path}?{where(query)}&count=1&limit=10", two))
        _must((page["count"], page["results"]) == (0, []), f"the other app found records by {query}")
    await http.request(request("PUT", record, one, {"text": "changed"}))
    for number in range(20):
        await http.request(request("POST", path, one, {"room": "lobby", "n": number, "text": str(number)}))
    page = await http.request(request("GET", f"{path}?{where({'room': 'lobby'})}&order=-n&limit=10&count=1", one))
    _must(page["count"] == 20, "the count is wrong")
    _must([entry["n"] for entry in page["results"]] == list(range(19, 9, -1)), "the page is wrong")
    async with asyncio.timeout(PATIENCE):
        events = [await heard.get() for _ in range(22)]
    _must([orjson.loads(event)["op"] for _, event in events] == ["create", "update", *["create"] * 20], "wrong events")
    _must(all(token == one for token, _ in events) and heard.empty(), "the other app heard events")
    await asyncio.gather(http.close(), *(ear.close() for ear in ears))


def _ear(heard: asyncio.Queue[tuple[str, bytes]], token: str) -> Answer:
    return lambda event: heard.put_nowait((token, event))


async def _refused(http: Http, message: bytes, *statuses: int) -> None:
    try:
        await http.request(message)
    except RestError as error:
        _must(error.status in statuses, f"refused with {error}")
    else:
        _must(False, f"allowed: {message!r}")


def _must(holds: bool, otherwise: str) -> None:
    if not holds:
        raise CheckError(f"Parse Server: {otherwise}")
