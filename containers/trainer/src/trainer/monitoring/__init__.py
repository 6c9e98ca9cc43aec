"""How does the live model do? The parts of step `trainer.monitor`."""
