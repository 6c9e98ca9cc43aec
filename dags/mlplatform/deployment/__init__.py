"""What the tasks of deploying and rolling back do, and the lock of an endpoint."""
