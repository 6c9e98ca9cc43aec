"""What step evaluate computes: pure functions of targets and predictions, which the report draws and gates judge."""
