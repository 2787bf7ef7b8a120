"""Where tenants' data is kept: the shared database, a database of a tenant's own, or a cluster of its own."""
