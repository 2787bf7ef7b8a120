"""Documents about what a tenant offers, each written from `services/description.py`."""
