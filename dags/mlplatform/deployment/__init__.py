"""What the tasks of ``deploy_model`` and ``rollback_model`` do, and the lock of an endpoint."""
