"""A Kubernetes API on loopback that runs pods as local processes."""
