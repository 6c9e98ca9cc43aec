# Each value here must be refused by its variable, before anything is asked or made.

mock_provider "aws" {
  source = "../../testing/mocks"
}

variables {
  name              = "ml-platform-test"
  environment       = "test"
  kms_key_arn       = "arn:aws:kms:eu-central-1:123456789012:key/11111111-2222-3333-4444-555555555555"
  monthly_limit_usd = 1000
  email_addresses   = ["ml-team@example.com"]
}

run "refuses_no_alerts" {
  command = plan
  variables {
    alert_percentages = { actual = [], forecast = [] }
  }
  expect_failures = [var.alert_percentages]
}

run "refuses_bad_percentage" {
  command = plan
  variables {
    alert_percentages = { actual = [0] }
  }
  expect_failures = [var.alert_percentages]
}

run "refuses_bad_address" {
  command = plan
  variables {
    email_addresses = ["ml-team"]
  }
  expect_failures = [var.email_addresses]
}

run "refuses_too_many_addresses" {
  command = plan
  variables {
    email_addresses = [for index in range(11) : "someone-${index}@example.com"]
  }
  expect_failures = [var.email_addresses]
}

run "refuses_alerts_to_nobody" {
  command = plan
  variables {
    email_addresses = []
  }
  expect_failures = [var.email_addresses]
}

run "refuses_bad_key" {
  command = plan
  variables {
    kms_key_arn = "alias/ml-platform"
  }
  expect_failures = [var.kms_key_arn]
}

run "refuses_no_limit" {
  command = plan
  variables {
    monthly_limit_usd = 0
  }
  expect_failures = [var.monthly_limit_usd]
}

run "refuses_bad_name" {
  command = plan
  variables {
    name = "ML"
  }
  expect_failures = [var.name]
}

run "refuses_bad_runbook_url" {
  command = plan
  variables {
    runbook_base_url = "http://example.com"
  }
  expect_failures = [var.runbook_base_url]
}

run "refuses_rate" {
  command = plan
  variables {
    shutdown = { stop_schedule = "rate(1 day)", database_identifier = "db" }
  }
  expect_failures = [var.shutdown]
}

run "refuses_several_hours" {
  command = plan
  variables {
    shutdown = { stop_schedule = "cron(0 20 ? * * *)", start_schedule = "cron(0 7,8 ? * * *)", database_identifier = "db" }
  }
  expect_failures = [var.shutdown]
}

run "refuses_bad_timezone" {
  command = plan
  variables {
    shutdown = { stop_schedule = "cron(0 20 ? * * *)", timezone = "CET+1", database_identifier = "db" }
  }
  expect_failures = [var.shutdown]
}

run "refuses_nothing_to_stop" {
  command = plan
  variables {
    shutdown = { stop_schedule = "cron(0 20 ? * * *)" }
  }
  expect_failures = [var.shutdown]
}

run "refuses_no_tasks_in_the_morning" {
  command = plan
  variables {
    shutdown = { stop_schedule = "cron(0 20 ? * * *)", ecs = { cluster = "c", service = "s", count = 0 } }
  }
  expect_failures = [var.shutdown]
}

run "refuses_maximum_below_minimum" {
  command = plan
  variables {
    shutdown = {
      stop_schedule = "cron(0 20 ? * * *)"
      node_groups   = { cluster = "c", sizes = { gpu = { min_size = 3, max_size = 2 } } }
    }
  }
  expect_failures = [var.shutdown]
}
