"""Driving the pipeline from outside, as a person or a test would: trigger, land, watch, read the outcome."""
