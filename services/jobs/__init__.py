"""Work in the background, each piece for one tenant: kept in the database, done by any node, in turns between tenants."""
