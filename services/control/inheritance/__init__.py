"""Settings: what an app has of its own, what it gets from the control plane, and what is built in (RF-1 to RF-5, RF-14)."""
