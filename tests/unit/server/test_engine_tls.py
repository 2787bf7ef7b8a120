"""A socket over TLS: the transport that is taken over is another one."""

from __future__ import annotations

import asyncio
import datetime as dt
import ipaddress
import ssl
from pathlib import Path

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from server.engine import Engine, Listener
from tests.support.echo_server import EchoHandlers
from tests.support.raw_socket import KEY, PATH, RawSocket


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    signed = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + dt.timedelta(1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = tmp_path / "certificate.pem"
    path.write_bytes(private + signed.public_bytes(serialization.Encoding.PEM))
    return path


async def test_calls_over_tls(certificate: Path) -> None:
    handlers = EchoHandlers()
    engine = Engine(handlers)
    app = web.Application()
    engine.attach(app)
    listener = Listener(app)
    await listener.setup()
    theirs = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    theirs.load_cert_chain(certificate)
    site = web.TCPSite(listener, "127.0.0.1", 0, ssl_context=theirs)
    await site.start()
    ours = ssl.create_default_context(cafile=str(certificate))
    reader, writer = await asyncio.open_connection("127.0.0.1", site.port, ssl=ours)
    head = (
        f"GET {PATH} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    )
    writer.write(f"{head}Sec-WebSocket-Key: {KEY}\r\n\r\n".encode())
    await reader.readuntil(b"\r\n\r\n")
    async with RawSocket(reader, writer) as raw:
        assert (await raw.receive()).startswith("0{")
        raw.send("40")
        assert (await raw.receive()).startswith("40{")
        assert await raw.call("echo", "x" * 500_000) == [None, "x" * 500_000]
        assert len((await raw.call("long", 2_000_000))[1]) == 2_000_000
        await next(iter(handlers.sockets.values())).close()
        assert await raw.closing() == 1001
    await engine.close()
    await listener.cleanup()
