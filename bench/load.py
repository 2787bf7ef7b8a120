"""The load process: reads a plan from standard input, does it, and prints the outcome; both are JSON.

It is a process of its own so that its CPU time is counted apart from the servers', and no run inherits anything.
"""

from __future__ import annotations

import gc
import sys
from typing import Any

import orjson
import uvloop

from bench.dialects import DIALECTS
from bench.plan import Account, Outcome, Plan, Scale
from bench.work import WORK

SEED = "seed"
"""The row that makes the accounts instead of measuring anything."""


def read_plan(text: bytes) -> Plan:
    """The plan that `orjson.dumps` made this of."""
    fields: dict[str, Any] = orjson.loads(text)
    scale = {**fields.pop("scale")}
    accounts = tuple(
        Account(**{**account, "messages": tuple(account["messages"])}) for account in fields.pop("accounts")
    )
    return Plan(**fields, scale=Scale(**{**scale, "audiences": tuple(scale["audiences"])}), accounts=accounts)


async def run(plan: Plan) -> Outcome | list[Account]:
    dialect = DIALECTS[plan.dialect](plan.port)
    if plan.row == SEED:
        return [await dialect.sign_up(tenant, plan.scale.records) for tenant in plan.scale.tenants()]
    return await WORK[plan.row](plan, dialect)


def main() -> None:
    plan = read_plan(sys.stdin.buffer.read())
    # Runs are short: what garbage there is may stay, rather than be looked for while time is taken.
    gc.freeze()
    gc.disable()
    sys.stdout.buffer.write(orjson.dumps(uvloop.run(run(plan))))


if __name__ == "__main__":
    main()
