"""What people write: the schemas of configuration files, strict, and their loading."""
