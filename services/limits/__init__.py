"""How much of the server a tenant, its users and its addresses may take: rates by the second, quotas by the month."""
