"""The bus: events of one node reach the sockets of all others."""
