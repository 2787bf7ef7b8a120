"""Moves: a tenant's data is brought from one placement to another while the tenant goes on working."""
