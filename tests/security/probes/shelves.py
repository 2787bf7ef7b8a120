"""A plug-in as a deployer writes it: a data service with values that are unique in each app. It is probed like all others."""

from __future__ import annotations

from services.application import Application
from services.data import DataService
from services.options import ServiceOptions
from services.query import Paginate

PATH = "shelves"


def configure(app: Application) -> None:
    """What Roost calls."""
    options = ServiceOptions(PATH, paginate=Paginate(10, 50), multi=frozenset({"create", "patch", "remove"}))
    app.use(PATH, DataService(app, options, unique=["text"]), rules="authenticated")
