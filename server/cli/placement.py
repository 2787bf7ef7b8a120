"""Where a new app's data is to be kept, as options of the commands that make one: what `placement` is in a declaration."""

from __future__ import annotations

from typing import Annotated

import typer

from services import declaration
from services.declaration.placement import PlacementDeclaration

Model = Annotated[
    str | None,
    typer.Option("--placement", metavar="MODEL", help="Isolation model: shared, database or cluster."),
]
Cluster = Annotated[str | None, typer.Option("--cluster", help="For database: one of ROOST_CLUSTERS.")]
UriEnv = Annotated[
    str | None, typer.Option("--uri-env", help="For cluster: the environment variable that holds its URI.")
]


def placement_of(app: str, model: str | None, cluster: str | None, uri_env: str | None) -> PlacementDeclaration | None:
    """The place that is asked for; None where none is.

    Raises:
        BadParameter: a cluster without a model. DeclarationError: the options do not agree with each other.
    """
    if model is None:
        if cluster is not None or uri_env is not None:
            raise typer.BadParameter("--cluster and --uri-env go with --placement")
        return None
    given = {"model": model, "cluster": cluster, "uri_env": uri_env}
    placement = {name: value for name, value in given.items() if value is not None}
    return declaration.check({"tenants": [{"id": app, "placement": placement}]}).tenants[0].placement
