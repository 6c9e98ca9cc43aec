"""Is what landed fit to train on? The parts of step `trainer.validate`."""
