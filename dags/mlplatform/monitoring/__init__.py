"""What the tasks of ``monitor_model`` do, and how drift and loss are told from chance."""
