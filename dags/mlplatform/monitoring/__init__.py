"""What the tasks of monitoring do, and how drift and loss are told from chance."""
