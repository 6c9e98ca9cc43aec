"""A SageMaker control plane and runtime whose endpoints are local processes of the project's serving code."""
