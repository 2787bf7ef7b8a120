"""Accounts: what people do about their own account by mail and password."""
