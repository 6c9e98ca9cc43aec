# Each value here must be refused by its variable, before anything is asked or made.

mock_provider "aws" {
  source = "../../testing/mocks"
}

variables {
  name                           = "ml-platform-test"
  environment                    = "test"
  kms_key_arn                    = "arn:aws:kms:eu-central-1:123456789012:key/11111111-2222-3333-4444-555555555555"
  email_addresses                = ["ml-team@example.com", "on-call@example.com"]
  runbook_base_url               = "https://example.com/runbooks"
  airflow_environment_name       = "ml-platform-test"
  cluster_name                   = "ml-platform-test"
  landing_dead_letter_queue_name = "ml-platform-test-landing-dead-letters"
  endpoint_names                 = { flights = "ml-platform-test-flights" }
  mlflow = {
    load_balancer_arn_suffix = "app/ml-platform-test-mlflow/0123456789abcdef"
    target_group_arn_suffix  = "targetgroup/ml-platform-test-mlflow/0123456789abcdef"
    database_identifier      = "ml-platform-test-mlflow"
    cluster_name             = "ml-platform-test-mlflow"
    service_name             = "mlflow"
  }
}

run "refuses_bad_address" {
  command = plan
  variables {
    email_addresses = ["ml-team"]
  }
  expect_failures = [var.email_addresses]
}

run "refuses_bad_key" {
  command = plan
  variables {
    kms_key_arn = "alias/aws/sns"
  }
  expect_failures = [var.kms_key_arn]
}

run "refuses_bad_name" {
  command = plan
  variables {
    name = "-platform"
  }
  expect_failures = [var.name]
}

run "refuses_bad_runbook_url" {
  command = plan
  variables {
    runbook_base_url = "docs/runbooks"
  }
  expect_failures = [var.runbook_base_url]
}

run "refuses_odd_minutes" {
  command = plan
  variables {
    thresholds = { gpu_idle_minutes = 12 }
  }
  expect_failures = [var.thresholds]
}

run "refuses_bad_percentage" {
  command = plan
  variables {
    thresholds = { database_cpu_percent = 120 }
  }
  expect_failures = [var.thresholds]
}

run "refuses_threshold_of_zero" {
  command = plan
  variables {
    thresholds = { mlflow_server_errors = 0 }
  }
  expect_failures = [var.thresholds]
}

run "refuses_too_long_silence" {
  command = plan
  variables {
    thresholds = { endpoint_silence_hours = 200 }
  }
  expect_failures = [var.thresholds]
}
