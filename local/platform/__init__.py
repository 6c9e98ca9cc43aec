"""The platform on one machine: which services it has, how they start, and how they stop.

`supervisor` runs them, `services` says what they are, `control` is what the command line calls.
"""
