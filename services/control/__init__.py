"""The control plane: the catalogue of tenants and what belongs to it. Unscoped access to the database lives here alone."""
