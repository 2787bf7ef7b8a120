"""Where a new tenant's data is to be kept, as the declarative file says it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from services.declaration.model import Strict


class PlacementDeclaration(Strict):
    """The isolation model, and where. It is for new tenants: the data of others is moved by `tenants promote`."""

    model: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,31}$")] = "shared"
    """`shared`, `database` or `cluster`, or that of a provider of one's own."""
    cluster: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,31}$")] = "default"
    """For `database`: one of the clusters that `ROOST_CLUSTERS` names."""
    uri_env: Annotated[str, Field(pattern=r"^[A-Z][A-Z0-9_]{0,63}$")] | None = None
    """For `cluster`: the environment variable that holds its connection string when the file is applied."""

    @model_validator(mode="after")
    def _check(self) -> PlacementDeclaration:
        if (self.model == "cluster") != (self.uri_env is not None):
            raise ValueError(
                "uri_env names the connection string of a cluster of the app's own: with model 'cluster' only"
            )
        if self.model in ("shared", "cluster") and self.cluster != "default":
            raise ValueError("cluster names one of the server's clusters: with model 'database'")
        return self
