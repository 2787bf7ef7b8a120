"""What can be called, and where it is kept. May import `hooks`."""
