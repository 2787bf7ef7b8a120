"""The servers that Roost is measured beside."""
