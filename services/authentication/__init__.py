"""Who is calling: log-in, tokens, the keys that sign them, and passwords. Everything here stays inside one tenant."""
