"""What one run of the load process has to do, and what comes of it: values that travel between processes as JSON."""

from __future__ import annotations

from dataclasses import dataclass

CROWD, OTHER = "bench-crowd", "bench-other"
"""The tenant of the fan-out's audience, and the tenant that is connected meanwhile and must hear nothing."""


@dataclass(frozen=True, slots=True)
class Scale:
    """How much of everything. Times in seconds."""

    connections: int
    in_flight: int
    records: int
    warm_up: float
    window: float
    audiences: tuple[int, int]
    bystanders: int
    fresh: int
    workers: int
    idle: int

    def tenants(self) -> list[str]:
        """All tenants of a run; the first `connections` of them make the calls."""
        return [f"bench-{number:02}" for number in range(self.connections)] + [CROWD, OTHER]


FULL = Scale(
    connections=16,
    in_flight=2,
    records=100,
    warm_up=0.5,
    window=1.5,
    audiences=(200, 1000),
    bystanders=10,
    fresh=500,
    workers=16,
    idle=1000,
)
QUICK = Scale(
    connections=2,
    in_flight=2,
    records=10,
    warm_up=0.05,
    window=0.1,
    audiences=(5, 10),
    bystanders=1,
    fresh=8,
    workers=2,
    idle=20,
)

ROWS = {
    "create": "create, one event each",
    "get": "get by id",
    "find": "find of 10 with total",
    "patch": "patch, one event each",
    "latency": "get, 1 connection x 1 call",
    "fanout-small": "event to {0} subscribers",
    "fanout-large": "event to {1} subscribers",
    "connect": "connect and leave",
    "authenticate": "authenticate by token",
    "idle": "memory per idle connection",
}
"""The rows of the table in their order, and what they are called there."""


def title(row: str, scale: Scale) -> str:
    return ROWS[row].format(*scale.audiences)


@dataclass(frozen=True, slots=True)
class Account:
    """A tenant's one user, logged in, and the ids of the tenant's records."""

    tenant: str
    token: str
    messages: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """One row at one server. `server` and `mongod` are process ids."""

    row: str
    dialect: str
    port: int
    server: int
    mongod: int
    scale: Scale
    accounts: tuple[Account, ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one row came to.

    `calls` counts what the row is about: calls, deliveries, connections. CPU in seconds, latencies in milliseconds,
    memory in KiB. `lost` are events that never came, `leaked` events that came to another tenant, `error` one of the
    failed answers.
    """

    calls: int = 0
    seconds: float = 0.0
    server_cpu: float = 0.0
    mongod_cpu: float = 0.0
    load_cpu: float = 0.0
    p50: float = 0.0
    p99: float = 0.0
    memory: float = 0.0
    failed: int = 0
    lost: int = 0
    leaked: int = 0
    error: str = ""
