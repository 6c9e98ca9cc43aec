"""What a release writes, made into a set that later releases must be able to read; see tests/golden/README.md."""
