# Who administers a cluster, from one apply to the next.

mock_provider "aws" {
  source = "./tests/mocks"
}

# The next person to apply.
mock_provider "aws" {
  alias  = "somebody_else"
  source = "./tests/mocks"

  override_data {
    target = data.aws_iam_session_context.current
    values = { issuer_arn = "arn:aws:iam::123456789012:role/somebody-else" }
  }
}

variables {
  name                 = "ml-platform-test"
  vpc_id               = "vpc-0123456789abcdef0"
  private_subnet_ids   = ["subnet-0000000000000000a", "subnet-0000000000000000b"]
  kms_key_arn          = "arn:aws:kms:eu-central-1:123456789012:key/00000000-0000-0000-0000-000000000000"
  airflow_role_arn     = "arn:aws:iam::123456789012:role/ml-platform-test-airflow"
  serving_role_arn     = "arn:aws:iam::123456789012:role/ml-platform-test-serving"
  studies_user_arn     = "arn:aws:rds-db:us-east-1:123456789012:dbuser:db-ABCDEFGHIJKL/studies"
  endpoint_name_prefix = "ml-platform-test"
  buckets = {
    landing   = { name = "ml-platform-test-landing-1", arn = "arn:aws:s3:::ml-platform-test-landing-1" }
    data      = { name = "ml-platform-test-data-1", arn = "arn:aws:s3:::ml-platform-test-data-1" }
    artifacts = { name = "ml-platform-test-artifacts-1", arn = "arn:aws:s3:::ml-platform-test-artifacts-1" }
  }
}

run "somebody_makes_the_cluster" {
  plan_options {
    target = [terraform_data.creator]
  }
}

run "somebody_else_applies_next" {
  command   = plan
  providers = { aws = aws.somebody_else }

  plan_options {
    target = [aws_eks_access_entry.admin]
  }

  assert {
    condition     = keys(aws_eks_access_entry.admin) == ["arn:aws:iam::123456789012:role/aws-reserved/sso.amazonaws.com/engineer"]
    error_message = "Who made the cluster must keep the entry, whoever applies."
  }
}

run "who_made_it_is_named" {
  command   = plan
  providers = { aws = aws.somebody_else }

  plan_options {
    target = [aws_eks_access_entry.admin]
  }

  variables {
    admin_role_arns = [
      "arn:aws:iam::123456789012:role/admin", "arn:aws:iam::123456789012:role/aws-reserved/sso.amazonaws.com/engineer",
    ]
  }

  assert {
    condition     = toset(keys(aws_eks_access_entry.admin)) == toset(var.admin_role_arns)
    error_message = "Whoever has an entry already must keep that one when named: EKS answers a second one with 409."
  }
}
