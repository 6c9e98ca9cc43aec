mock_provider "aws" {
  source = "../../testing/mocks"

  mock_resource "aws_emrserverless_application" {
    defaults = { arn = "arn:aws:emr-serverless:us-east-1:123456789012:/applications/mock" }
  }
  mock_resource "aws_iam_role" {
    defaults = { arn = "arn:aws:iam::123456789012:role/mock" }
  }
}

variables {
  name               = "ml-platform-test"
  vpc_id             = "vpc-1"
  private_subnet_ids = ["subnet-a", "subnet-b"]
  kms_key_arn        = "arn:aws:kms:us-east-1:123456789012:key/00000000-0000-0000-0000-000000000000"
  data_bucket        = { name = "data", arn = "arn:aws:s3:::data" }
}

run "a_ceiling_and_nothing_at_rest" {
  command = apply

  assert {
    condition = (
      length(aws_emrserverless_application.this.initial_capacity) == 0 &&
      aws_emrserverless_application.this.auto_stop_configuration[0].enabled &&
      aws_emrserverless_application.this.maximum_capacity[0].cpu == "128 vCPU"
    )
    error_message = "No worker is kept warm, and there is a ceiling."
  }
  assert {
    condition     = aws_emrserverless_application.this.type == "SPARK" && output.execution_role_arn == aws_iam_role.job.arn
    error_message = "It runs Spark, and its jobs have a role of their own."
  }

  assert {
    condition = (
      aws_vpc_security_group_ingress_rule.workers.referenced_security_group_id == aws_security_group.this.id &&
      aws_vpc_security_group_ingress_rule.workers.cidr_ipv4 == null
    )
    error_message = "Nobody else may reach them."
  }
}
