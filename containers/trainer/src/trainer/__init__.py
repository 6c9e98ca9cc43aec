"""The steps of the training pipeline that run in pods: validate, prepare, train, evaluate."""
