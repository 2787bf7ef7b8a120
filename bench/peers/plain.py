"""The plain Python peer: python-socketio on aiohttp with PyMongo's asynchronous client, each used as its guide shows.

It speaks the Feathers protocol for the two services of the benchmark; the app comes from the handshake's `appId`, a
room per app carries the events. Run as a module with PORT, MONGODB_URI and DATABASE in the environment.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs

import argon2
import jwt
import socketio
from aiohttp import web
from bson import ObjectId
from pymongo import AsyncMongoClient, ReturnDocument
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.database import AsyncDatabase
from socketio.exceptions import ConnectionRefusedError as Refusal

Record = dict[str, Any]

SECRET = "a secret of the benchmark only, long enough"
DAY = 24 * 3600
DEFAULT_LIMIT, MAX_LIMIT = 10, 50
WRITES = {"create": "created", "patch": "patched", "remove": "removed"}
CLASSES = {400: "BadRequest", 401: "NotAuthenticated", 404: "NotFound", 405: "MethodNotAllowed"}

hasher = argon2.PasswordHasher()


class Failure(Exception):
    """What a call is refused with: a code of `CLASSES` and a sentence."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code

    def wire(self) -> Record:
        return {"name": CLASSES[self.code], "code": self.code, "message": str(self)}


@dataclass(slots=True)
class Session:
    """What is remembered of a connection: its app, and its login once there is one, which its later calls rely on."""

    app_id: str
    token: str | None = None
    user: Record = field(default_factory=dict)


def external(document: Record) -> Record:
    """A document as a client sees it."""
    return {key: str(value) if key == "_id" else value for key, value in document.items() if key != "password"}


def object_id(value: object) -> ObjectId:
    """The id of a record. Whatever cannot be one is not found."""
    if isinstance(value, str) and ObjectId.is_valid(value):
        return ObjectId(value)
    raise Failure(404, f"No record found for id '{value}'")


def scoped(app_id: str, query: Mapping[str, Any]) -> Record:
    """The client's conditions within the app."""
    conditions = {key: value for key, value in query.items() if not key.startswith("$")}
    return {"$and": [{"app_id": app_id}, conditions]} if conditions else {"app_id": app_id}


def identity(app_id: str, value: object) -> Record:
    """The conditions that find one record of the app."""
    return {"_id": object_id(value), "app_id": app_id}


class Collection:
    """A service over one collection."""

    def __init__(self, documents: AsyncCollection[Record]) -> None:
        self.documents = documents

    async def find(self, session: Session, query: Mapping[str, Any]) -> Record:
        conditions = scoped(session.app_id, query)
        limit = min(int(query.get("$limit", DEFAULT_LIMIT)), MAX_LIMIT)
        skip = int(query.get("$skip", 0))
        cursor = self.documents.find(conditions).skip(skip).limit(limit)
        if "$sort" in query:
            cursor = cursor.sort(list(query["$sort"].items()))
        total, data = await asyncio.gather(self.documents.count_documents(conditions), cursor.to_list())
        return {"total": total, "limit": limit, "skip": skip, "data": [external(document) for document in data]}

    async def get(self, session: Session, id: object, query: object = None) -> Record:
        return self.found(await self.documents.find_one(identity(session.app_id, id)), id)

    async def create(self, session: Session, data: Record, query: object = None) -> Record:
        document = {**data, "app_id": session.app_id}
        await self.documents.insert_one(document)
        return external(document)

    async def patch(self, session: Session, id: object, data: Record, query: object = None) -> Record:
        change = {"$set": {**data, "app_id": session.app_id}}
        document = await self.documents.find_one_and_update(
            identity(session.app_id, id), change, return_document=ReturnDocument.AFTER
        )
        return self.found(document, id)

    async def remove(self, session: Session, id: object, query: object = None) -> Record:
        return self.found(await self.documents.find_one_and_delete(identity(session.app_id, id)), id)

    def found(self, document: Record | None, id: object) -> Record:
        if document is None:
            raise Failure(404, f"No record found for id '{id}'")
        return external(document)


class Users(Collection):
    """The service of users: a password is stored as its hash."""

    async def create(self, session: Session, data: Record, query: object = None) -> Record:
        hashed = await asyncio.to_thread(hasher.hash, str(data["password"]))
        return await super().create(session, {**data, "password": hashed})


class Authentication:
    """Log-in by password or by token; the user is looked for in the app of the connection only."""

    def __init__(self, users: AsyncCollection[Record]) -> None:
        self.users = users

    async def create(self, session: Session, data: Record, query: object = None) -> Record:
        if data.get("strategy") == "local":
            user, token = await self.by_password(session.app_id, str(data.get("username")), str(data.get("password")))
        elif data.get("strategy") == "jwt":
            token = str(data.get("accessToken"))
            user = await self.by_token(session.app_id, token)
        else:
            raise Failure(401, "Invalid authentication information")
        session.token, session.user = token, user
        return {"accessToken": token, "authentication": {"strategy": data["strategy"]}, "user": external(user)}

    async def by_password(self, app_id: str, username: str, password: str) -> tuple[Record, str]:
        user = await self.users.find_one({"app_id": app_id, "username": username})
        if user is None:
            raise Failure(401, "Invalid login")
        try:
            await asyncio.to_thread(hasher.verify, user["password"], password)
        except argon2.exceptions.VerifyMismatchError as error:
            raise Failure(401, "Invalid login") from error
        claims = {"sub": str(user["_id"]), "app": app_id, "exp": int(time.time()) + DAY}
        return user, jwt.encode(claims, SECRET, algorithm="HS256")

    async def by_token(self, app_id: str, token: str) -> Record:
        try:
            claims = jwt.decode(token, SECRET, algorithms=["HS256"])
        except jwt.InvalidTokenError as error:
            raise Failure(401, str(error)) from error
        user = await self.users.find_one({"_id": ObjectId(claims["sub"]), "app_id": app_id})
        if user is None or claims["app"] != app_id:
            raise Failure(401, "No such user in this app")
        return user


def build(database: AsyncDatabase[Record]) -> web.Application:
    """The application with its three services."""
    sio = socketio.AsyncServer(async_mode="aiohttp")
    application = web.Application()
    sio.attach(application)
    services: dict[str, Any] = {
        "authentication": Authentication(database["users"]),
        "messages": Collection(database["messages"]),
        "users": Users(database["users"]),
    }

    @sio.event
    async def connect(sid: str, environ: Record, auth: object) -> None:
        app_id = parse_qs(environ["QUERY_STRING"]).get("appId", [""])[0]
        if not app_id:
            raise Refusal("appId is missing")
        await sio.save_session(sid, {"session": Session(app_id)})

    async def call(method: str, session: Session, path: str, arguments: list[Any]) -> Record:
        action = getattr(services.get(path), method, None)
        if action is None:
            raise Failure(405, f"Method '{method}' not allowed on service '{path}'")
        if session.token is None and path != "authentication" and (path, method) != ("users", "create"):
            raise Failure(401, "Not authenticated")
        result: Record = await action(session, *arguments)
        return result

    @sio.on("*")
    async def on_call(method: str, sid: str, path: str, *arguments: Any) -> tuple[Record | None, Record] | Record:
        session: Session = (await sio.get_session(sid))["session"]
        try:
            if method not in ("find", "get", "create", "patch", "remove"):
                raise Failure(405, f"Method '{method}' not allowed on service '{path}'")
            result = await call(method, session, path, list(arguments))
        except Failure as error:
            return error.wire()
        if path == "authentication":
            await sio.enter_room(sid, session.app_id)
        elif method in WRITES:
            await sio.emit(f"{path} {WRITES[method]}", result, room=session.app_id)
        return None, result

    return application


async def start() -> web.Application:
    client: AsyncMongoClient[Record] = AsyncMongoClient(os.environ["MONGODB_URI"])
    database = client[os.environ["DATABASE"]]
    await database["messages"].create_index([("app_id", 1), ("room", 1), ("n", 1)])
    await database["users"].create_index([("app_id", 1), ("username", 1)], unique=True)
    return build(database)


if __name__ == "__main__":
    web.run_app(start(), host="127.0.0.1", port=int(os.environ["PORT"]), print=None)
