# Each value here must be refused by its variable, before anything is asked or made.

mock_provider "aws" {
  source = "../../testing/mocks"
}

variables {
  name               = "ml-platform-test"
  vpc_id             = "vpc-1"
  private_subnet_ids = ["subnet-a", "subnet-b"]
  kms_key_arn        = "arn:aws:kms:us-east-1:123456789012:key/00000000-0000-0000-0000-000000000000"
  data_bucket        = { name = "data", arn = "arn:aws:s3:::data" }
}

run "a_job_needs_a_core_for_its_driver" {
  command = plan

  variables {
    maximum_vcpu = 1
  }

  expect_failures = [var.maximum_vcpu]
}

run "a_job_needs_memory" {
  command = plan

  variables {
    maximum_memory_gib = 4
  }

  expect_failures = [var.maximum_memory_gib]
}

run "it_needs_a_subnet" {
  command = plan

  variables {
    private_subnet_ids = []
  }

  expect_failures = [var.private_subnet_ids]
}

run "an_unknown_release_is_refused" {
  command = plan

  variables {
    release_label = "latest"
  }

  expect_failures = [var.release_label]
}
