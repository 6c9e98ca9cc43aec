"""Data sets that land on the local platform as they would in life: one month after another."""
