# Each value here must be refused by its variable, before anything is asked or made.

mock_provider "aws" {
  source = "../testing/mocks"
}

variables {
  region            = "us-east-1"
  github_repository = "example/platform"
}

run "access_log_bucket_is_a_name" {
  command = plan

  variables {
    access_log_bucket = "arn:aws:s3:::audit-logs"
  }

  expect_failures = [var.access_log_bucket]
}

run "branches_have_no_wildcards" {
  command = plan

  variables {
    github_branches = ["release/*"]
  }

  expect_failures = [var.github_branches]
}

run "somebody_can_deploy" {
  command = plan

  variables {
    github_branches     = []
    github_environments = []
  }

  expect_failures = [var.github_branches]
}

run "environments_have_no_wildcards" {
  command = plan

  variables {
    github_environments = ["*"]
  }

  expect_failures = [var.github_environments]
}

run "repository_is_one" {
  command = plan

  variables {
    github_repository = "example/*"
  }

  expect_failures = [var.github_repository]
}

run "repository_is_no_address" {
  command = plan

  variables {
    github_repository = "https://github.com/example/platform"
  }

  expect_failures = [var.github_repository]
}

run "enough_images_stay" {
  command = plan

  variables {
    image_retention_count = 1
  }

  expect_failures = [var.image_retention_count]
}

run "region_is_a_code" {
  command = plan

  variables {
    region = "Virginia"
  }

  expect_failures = [var.region]
}

run "states_stay_a_month" {
  command = plan

  variables {
    state_version_days = 1
  }

  expect_failures = [var.state_version_days]
}

run "untagged_images_go" {
  command = plan

  variables {
    untagged_image_days = 365
  }

  expect_failures = [var.untagged_image_days]
}
