"""How calls come in and events go out. May import `services` and `hooks`."""

__version__ = "0.1.0"
