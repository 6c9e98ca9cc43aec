# Each value here must be refused by its variable, before anything is asked or made.

mock_provider "aws" {
  source = "../../testing/mocks"
}

variables {
  name             = "ml-platform-test"
  image            = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/ml-platform/serving@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
  kms_key_arn      = "arn:aws:kms:eu-central-1:123456789012:key/11111111-2222-3333-4444-555555555555"
  artifacts_bucket = { name = "ml-platform-test-artifacts", arn = "arn:aws:s3:::ml-platform-test-artifacts" }
  data_bucket      = { name = "ml-platform-test-data", arn = "arn:aws:s3:::ml-platform-test-data" }
  endpoints        = { flights = { instance_type = "ml.m6i.large" } }
}

run "refuses_bad_dataset" {
  command = plan
  variables {
    endpoints = { "Flights_2013" = { instance_type = "ml.m6i.large" } }
  }
  expect_failures = [var.endpoints]
}

run "refuses_long_names" {
  command = plan
  variables {
    endpoints = { "a-dataset-with-a-name-that-is-far-too-long-for-sagemaker" = { instance_type = "ml.m6i.large" } }
  }
  expect_failures = [var.endpoints]
}

run "refuses_unknown_family" {
  command = plan
  variables {
    endpoints = { flights = { instance_type = "ml.q9.large" } }
  }
  expect_failures = [var.endpoints]
}

run "refuses_arm_family" {
  command = plan
  variables {
    endpoints = { flights = { instance_type = "ml.m6g.large" } }
  }
  expect_failures = [var.endpoints]
}

run "refuses_ec2_instance_type" {
  command = plan
  variables {
    endpoints = { flights = { instance_type = "m6i.large" } }
  }
  expect_failures = [var.endpoints]
}

run "refuses_no_instances" {
  command = plan
  variables {
    endpoints = { flights = { instance_type = "ml.m6i.large", instance_count = 0 } }
  }
  expect_failures = [var.endpoints]
}

run "refuses_maximum_below_count" {
  command = plan
  variables {
    endpoints = { flights = { instance_type = "ml.m6i.large", instance_count = 3, max_instance_count = 2 } }
  }
  expect_failures = [var.endpoints]
}

run "refuses_scaling_of_burstable_instances" {
  command = plan
  variables {
    endpoints = { flights = { instance_type = "ml.t2.medium", max_instance_count = 2 } }
  }
  expect_failures = [var.endpoints]
}

run "refuses_scaling_of_what_is_not_there" {
  command = plan
  variables {
    endpoints = { flights = { instance_type = "ml.m6i.large", max_instance_count = 2, at_rest = false } }
  }
  expect_failures = [var.endpoints]
}

run "refuses_bad_capture_percentage" {
  command = plan
  variables {
    endpoints = { flights = { instance_type = "ml.m6i.large", data_capture_percentage = 101 } }
  }
  expect_failures = [var.endpoints]
}

run "refuses_bad_scaling_target" {
  command = plan
  variables {
    endpoints = { flights = { instance_type = "ml.m6i.large", invocations_per_instance = 0 } }
  }
  expect_failures = [var.endpoints]
}

run "refuses_bad_startup_timeout" {
  command = plan
  variables {
    endpoints = { flights = { instance_type = "ml.m6i.large", startup_timeout_seconds = 30 } }
  }
  expect_failures = [var.endpoints]
}

run "refuses_percent_for_share" {
  command = plan
  variables {
    endpoints = { flights = { instance_type = "ml.m6i.large", alarms = { server_error_share = 5 } } }
  }
  expect_failures = [var.endpoints]
}

run "refuses_latency_of_zero" {
  command = plan
  variables {
    endpoints = { flights = { instance_type = "ml.m6i.large", alarms = { latency_p99_ms = 0 } } }
  }
  expect_failures = [var.endpoints]
}

run "refuses_model_in_environment" {
  command = plan
  variables {
    environment_variables = { MODEL_VERSION = "1" }
  }
  expect_failures = [var.environment_variables]
}

run "refuses_public_image" {
  command = plan
  variables {
    image = "docker.io/library/python:3.12"
  }
  # The role's policy is made from the parts of the image's name.
  expect_failures = [var.image]
}

run "refuses_latest" {
  command = plan
  variables {
    image = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/ml-platform/serving:latest"
  }
  expect_failures = [var.image]
}

run "refuses_bad_key" {
  command = plan
  variables {
    kms_key_arn = "alias/ml-platform"
  }
  expect_failures = [var.kms_key_arn]
}

run "refuses_bad_retention" {
  command = plan
  variables {
    log_retention_days = 31
  }
  expect_failures = [var.log_retention_days]
}

run "refuses_bad_name" {
  command = plan
  variables {
    name = "ML_Platform"
  }
  expect_failures = [var.name]
}

run "refuses_bad_runbook_url" {
  command = plan
  variables {
    runbook_base_url = "https://example.com/runbooks/"
  }
  expect_failures = [var.runbook_base_url]
}

run "refuses_one_subnet" {
  command = plan
  variables {
    vpc_config = { vpc_id = "vpc-1", subnet_ids = ["subnet-1"] }
  }
  expect_failures = [var.vpc_config]
}
