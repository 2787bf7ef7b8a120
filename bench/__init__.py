"""How fast Roost is, beside its peers: `python -m bench`. README.md says how to run and how to read it."""
