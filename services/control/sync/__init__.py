"""Sync: what the control plane has of some entities is copied into every other tenant, and kept like it.

Level-triggered: a write leaves word of *what* has changed; whoever hears of it compares what a tenant has with what the control
plane has at that moment, and mends the difference. So it does not matter how often, or in which order, anybody hears.
"""
