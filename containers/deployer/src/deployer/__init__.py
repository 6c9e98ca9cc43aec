"""Puts a registered model version live on a SageMaker endpoint, or puts back what was live before."""
