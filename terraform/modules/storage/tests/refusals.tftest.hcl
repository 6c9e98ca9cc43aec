# Each value here must be refused by its variable, before anything is asked or made.

mock_provider "aws" {
  source = "../../testing/mocks"
}

variables {
  name          = "ml-platform-test"
  bucket_suffix = "123456789012"
}

run "access_logs_expire_at_once" {
  command = plan

  variables {
    access_log_retention_days = 0
  }

  expect_failures = [var.access_log_retention_days]
}

run "access_logs_expire_between_days" {
  command = plan

  variables {
    access_log_retention_days = 1.5
  }

  expect_failures = [var.access_log_retention_days]
}

run "suffix_with_capitals" {
  command = plan

  variables {
    bucket_suffix = "Account"
  }

  expect_failures = [var.bucket_suffix]
}

run "suffix_too_long" {
  command = plan

  variables {
    bucket_suffix = "a-suffix-that-is-much-too-long"
  }

  expect_failures = [var.bucket_suffix]
}

run "bucket_names_too_long" {
  command = plan

  variables {
    name          = "machine-learning-in-production"
    bucket_suffix = "123456789012-eu-central-1"
  }

  expect_failures = [var.bucket_suffix]
}

run "capture_expires_before_it_is_made" {
  command = plan

  variables {
    data_lifecycle = { capture_expiration_days = -1 }
  }

  expect_failures = [var.data_lifecycle]
}

run "runs_expire_before_they_move" {
  command = plan

  variables {
    data_lifecycle = { runs_tiering_days = 30, runs_expiration_days = 30 }
  }

  expect_failures = [var.data_lifecycle]
}

run "administrator_is_everybody" {
  command = plan

  variables {
    kms_admin_arns = ["*"]
  }

  expect_failures = [var.kms_admin_arns]
}

run "administrator_with_a_wildcard" {
  command = plan

  variables {
    kms_admin_arns = ["arn:aws:iam::123456789012:role/*"]
  }

  expect_failures = [var.kms_admin_arns]
}

run "no_event_suffix" {
  command = plan

  variables {
    landing_event_suffixes = []
  }

  expect_failures = [var.landing_event_suffixes]
}

run "event_prefix_is_a_pattern" {
  command = plan

  variables {
    landing_event_prefixes = ["flights/*"]
  }

  expect_failures = [var.landing_event_prefixes]
}

run "event_prefix_twice" {
  command = plan

  variables {
    landing_event_prefixes = ["flights/", "flights/"]
  }

  expect_failures = [var.landing_event_prefixes]
}

run "event_prefix_beside_all_others" {
  command = plan

  variables {
    landing_event_prefixes = ["", "flights/"]
  }

  expect_failures = [var.landing_event_prefixes]
}

run "labels_announced_as_data" {
  command = plan

  variables {
    landing_event_prefixes = ["flights/", "labels/"]
  }

  expect_failures = [var.landing_event_prefixes]
}

run "event_suffix_is_a_pattern" {
  command = plan

  variables {
    landing_event_suffixes = ["*.parquet"]
  }

  expect_failures = [var.landing_event_suffixes]
}

run "event_suffixes_overlap" {
  command = plan

  variables {
    landing_event_suffixes = [".parquet", ".snappy.parquet"]
  }

  expect_failures = [var.landing_event_suffixes]
}

run "event_suffix_twice" {
  command = plan

  variables {
    landing_event_suffixes = [".parquet", ".parquet"]
  }

  expect_failures = [var.landing_event_suffixes]
}

run "refused_files_expire_at_once" {
  command = plan

  variables {
    landing_expiration_days = 0
  }

  expect_failures = [var.landing_expiration_days]
}

run "messages_are_never_received" {
  command = plan

  variables {
    landing_queue = { max_receive_count = 0 }
  }

  expect_failures = [var.landing_queue]
}

run "messages_outlive_the_dead_letter_queue" {
  command = plan

  variables {
    landing_queue = { retention_days = 14 }
  }

  expect_failures = [var.landing_queue]
}

run "messages_come_twice" {
  command = plan

  variables {
    landing_queue = { visibility_timeout_seconds = 5 }
  }

  expect_failures = [var.landing_queue]
}

run "name_too_long" {
  command = plan

  variables {
    name = "ml-platform-with-a-name-that-is-too-long"
  }

  expect_failures = [var.name]
}

run "name_with_underscores" {
  command = plan

  variables {
    name = "ml_platform"
  }

  expect_failures = [var.name]
}

run "versions_expire_at_once" {
  command = plan

  variables {
    noncurrent_version_days = 0
  }

  expect_failures = [var.noncurrent_version_days]
}
