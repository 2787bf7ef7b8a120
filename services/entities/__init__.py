"""Entities: organizations and who belongs to them, roles and what they allow, APIs and clients. Each tenant has its own."""
