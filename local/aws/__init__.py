"""The local AWS API: moto for S3, SQS, SNS, STS and Secrets Manager, and our own SageMaker endpoints."""
