"""The lean path on connections that PyMongo encrypted and authenticated; and what it does with replies it does not know."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import subprocess
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path as FilePath

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from pymongo import AsyncMongoClient
from pymongo.errors import AutoReconnect, OperationFailure

from hooks.errors import Unavailable
from services.database.deployment import Deployment
from services.database.handover import open_connection
from services.database.lean import LeanCollection
from services.database.mongod import find_mongod, free_port
from services.store import Collection, Document, Namespace
from tests.integration.database.commands import Commands, key, user
from tests.support.mongod import ReplicaSet

NAMESPACE = Namespace("handover", "users")


@pytest.fixture(scope="module")
def guarded_mongod(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, FilePath]]:
    """The port of a standalone server that demands TLS and a password, and the certificate it shows."""
    folder = tmp_path_factory.mktemp("guarded")
    certificate = _certificate(folder)
    port = free_port()
    with (folder / "mongod.log").open("wb") as log:
        process = subprocess.Popen(
            [
                find_mongod(),
                f"--dbpath={folder}",
                f"--port={port}",
                "--bind_ip=127.0.0.1",
                "--nounixsocket",
                "--auth",
                "--tlsMode=requireTLS",
                f"--tlsCertificateKeyFile={certificate}",
                "--wiredTigerCacheSizeGB=0.25",
            ],
            stdout=log,
            stderr=log,
        )
    yield port, certificate
    process.kill()
    process.wait()


@pytest.fixture
async def guarded_uri(guarded_mongod: tuple[int, FilePath]) -> str:
    port, certificate = guarded_mongod
    tls = f"tls=true&tlsCAFile={certificate}"
    async with AsyncMongoClient[Document](
        f"mongodb://127.0.0.1:{port}/?{tls}", serverSelectionTimeoutMS=30_000
    ) as client:
        # Only the first user may be made without a password.
        with contextlib.suppress(OperationFailure):
            await client.admin.command({"createUser": "ann", "pwd": "s3cret", "roles": ["root"]})
    return f"mongodb://ann:s3cret@127.0.0.1:{port}/?{tls}"


async def test_over_tls_with_a_password_to_a_standalone_server(guarded_uri: str) -> None:
    commands = Commands()
    deployment = Deployment(guarded_uri, path="lean", event_listeners=[commands])
    await deployment.open()
    collection = deployment.collection(NAMESPACE)
    assert isinstance(collection, LeanCollection)
    await asyncio.gather(*(collection.insert([user(str(i), text="x" * 100_000)]) for i in range(40)))
    assert await collection.count({"app_id": "acme"}) == 40
    assert len(await collection.find({"app_id": "acme"})) == 40
    assert await collection.find_one_and_delete(key("3")) is not None
    assert await collection.delete_many({"app_id": "acme"}) == 39
    # A standalone server knows no retryable writes.
    assert not any("txnNumber" in event.command for event in commands.all_started)
    await deployment.close()


async def test_a_wrong_password_is_told_at_the_start(guarded_uri: str) -> None:
    with pytest.raises(Unavailable, match="credentials"):
        await Deployment(guarded_uri.replace("s3cret", "wrong"), path="lean").open()


class Distorter:
    """A server between client and mongod that gives replies another op code while `distorting`."""

    def __init__(self, upstream: int) -> None:
        self.distorting = False
        self._upstream = upstream

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Handles one client."""
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._upstream)
        pumps = [
            asyncio.create_task(self._pump(reader, up_writer, replies=False)),
            asyncio.create_task(self._pump(up_reader, writer, replies=True)),
        ]
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)
        for each in (up_writer, writer):
            each.close()
            with contextlib.suppress(ConnectionError):
                await each.wait_closed()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, replies: bool) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readexactly(16)
                body = await reader.readexactly(int.from_bytes(head[:4], "little") - 16)
                if replies and self.distorting and (b"firstBatch" in body or b"lastErrorObject" in body):
                    self.distorting = False
                    head = head[:12] + (1).to_bytes(4, "little")
                writer.write(head + body)
                await writer.drain()


@pytest.fixture
async def distorted(replica_set: ReplicaSet) -> AsyncIterator[tuple[Distorter, Collection]]:
    distorter = Distorter(replica_set.ports[0])
    server = await asyncio.start_server(distorter.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    deployment = Deployment(f"mongodb://127.0.0.1:{port}/?directConnection=true", path="lean")
    await deployment.open()
    yield distorter, deployment.collection(NAMESPACE)
    await deployment.client.drop_database(NAMESPACE.database)
    await deployment.close()
    server.close()


async def test_a_read_answered_in_an_unknown_way_is_asked_by_pymongo(
    distorted: tuple[Distorter, Collection], caplog: pytest.LogCaptureFixture
) -> None:
    distorter, collection = distorted
    await collection.insert([user("1")])
    distorter.distorting = True
    assert await collection.find({"app_id": "acme"}) == [user("1")]
    assert "PyMongo takes over" in caplog.text
    # From now on everything is.
    await collection.insert([user("2", n=1)])
    assert await collection.count({"app_id": "acme"}) == 2
    assert len(await collection.find({"app_id": "acme"})) == 2
    assert await collection.find_one_and_update(key("2"), {"$inc": {"n": 1}}) == user("2", n=2)
    assert await collection.find_one_and_replace(key("2"), {"app_id": "acme"}) == user("2")
    assert await collection.find_one_and_delete(key("2")) == user("2")
    assert await collection.update_many({"app_id": "acme"}, {"$set": {"n": 1}}) == 1
    assert await collection.delete_many({"app_id": "acme"}) == 1


async def test_a_write_answered_in_an_unknown_way_is_not_sent_again(distorted: tuple[Distorter, Collection]) -> None:
    distorter, collection = distorted
    await collection.insert([user("1", n=0)])
    distorter.distorting = True
    with pytest.raises(Unavailable):
        await collection.find_one_and_update(key("1"), {"$inc": {"n": 1}})
    assert await collection.find(key("1")) == [user("1", n=1)]


async def test_a_connection_to_a_server_that_is_gone_from_the_deployment_is_not_opened(replica_set: ReplicaSet) -> None:
    deployment = Deployment(replica_set.uri)
    await deployment.open()
    with pytest.raises(AutoReconnect):
        await open_connection(deployment.client, ("127.0.0.1", 1))
    await deployment.close()


def _certificate(folder: FilePath) -> FilePath:
    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(private.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(private, hashes.SHA256())
    )
    path = folder / "server.pem"
    path.write_bytes(
        private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    return path
