mock_provider "aws" {
  source = "../../testing/mocks"
}

variables {
  region = "us-east-1"

  mlflow_certificate_arn = "arn:aws:acm:us-east-1:123456789012:certificate/11111111-2222-3333-4444-555555555555"
  mlflow_domain_name     = "mlflow.ml.example.com"

  images = {
    deployer     = "123456789012.dkr.ecr.us-east-1.amazonaws.com/ml-platform/deployer@sha256:0000000000000000000000000000000000000000000000000000000000000000"
    mlflow       = "123456789012.dkr.ecr.us-east-1.amazonaws.com/ml-platform/mlflow@sha256:0000000000000000000000000000000000000000000000000000000000000000"
    serving      = "123456789012.dkr.ecr.us-east-1.amazonaws.com/ml-platform/serving@sha256:0000000000000000000000000000000000000000000000000000000000000000"
    trainer      = "123456789012.dkr.ecr.us-east-1.amazonaws.com/ml-platform/trainer@sha256:0000000000000000000000000000000000000000000000000000000000000000"
    trainer_cuda = "123456789012.dkr.ecr.us-east-1.amazonaws.com/ml-platform/trainer-cuda@sha256:0000000000000000000000000000000000000000000000000000000000000000"
  }
}

run "the_environment_plans" {
  command = plan

  assert {
    condition     = output.name == "ml-platform-staging" && output.mlflow_tracking_uri == "https://mlflow.ml.example.com"
    error_message = "Names begin with ml-platform-staging, and MLflow speaks HTTPS."
  }
}
