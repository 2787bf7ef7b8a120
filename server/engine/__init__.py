"""The Engine.IO/Socket.IO engine: sockets come in, calls and frames go through, nothing is unbounded.

The rest of the server sees what is listed here. Only this package knows `socketio` and `engineio`, and touches private
names of theirs and of `aiohttp`; `library.check` names them all, and no engine starts when one is missing.
"""

from __future__ import annotations

from server.engine.engine import Engine
from server.engine.gate import Gate
from server.engine.handlers import Handlers, Refused, Request
from server.engine.listener import Listener
from server.engine.options import Options
from server.engine.packets import Frame
from server.engine.socket import Socket

__all__ = ["Engine", "Frame", "Gate", "Handlers", "Listener", "Options", "Refused", "Request", "Socket"]
