"""Measurements; each prints a table for the documents."""
