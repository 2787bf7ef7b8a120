"""Log lines of the engine and of the libraries under it: one a second at most, whatever clients do."""

from __future__ import annotations

import logging
import time


class Sparse(logging.Filter):
    """Lets one record a second pass; the next one says how many were left out."""

    def __init__(self, interval: float = 1.0) -> None:
        super().__init__()
        self._interval = interval
        self._after = 0.0
        self._left_out = 0

    def filter(self, record: logging.LogRecord) -> bool:
        now = time.monotonic()
        if now < self._after:
            self._left_out += 1
            return False
        self._after = now + self._interval
        if self._left_out:
            record.msg = f"{record.msg} ({self._left_out} more lines were left out)"
            self._left_out = 0
        return True


logger = logging.getLogger("roost.engine")
library_logger = logging.getLogger("roost.engine.library")
http_logger = logging.getLogger("roost.engine.http")
clients = logging.getLogger("roost.engine.clients")

library_logger.setLevel(logging.ERROR)
for each in (logger, clients, library_logger, http_logger):
    each.addFilter(Sparse())
