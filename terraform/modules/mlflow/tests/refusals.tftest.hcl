# Each value here must be refused by its variable, before anything is asked or made.

mock_provider "aws" {
  source = "../../testing/mocks"
}

variables {
  name                      = "ml-platform-test"
  image                     = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/ml-platform/mlflow@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
  vpc_id                    = "vpc-1"
  private_subnet_ids        = ["subnet-a", "subnet-b"]
  kms_key_arn               = "arn:aws:kms:eu-west-1:123456789012:key/00000000-0000-0000-0000-000000000000"
  artifacts_bucket          = { name = "artifacts", arn = "arn:aws:s3:::artifacts" }
  logs_bucket               = { name = "logs", arn = "arn:aws:s3:::logs" }
  client_security_group_ids = { airflow = "sg-airflow", cluster = "sg-cluster" }
  certificate_arn           = "arn:aws:acm:eu-west-1:123456789012:certificate/1"
}

run "no_certificate_and_no_leave" {
  command = plan
  variables {
    certificate_arn = null
  }
  expect_failures = [var.certificate_arn]
}

run "certificate_of_iam" {
  command = plan
  variables {
    certificate_arn = "arn:aws:iam::123456789012:server-certificate/x"
  }
  expect_failures = [var.certificate_arn]
}

run "nobody_may_use_it" {
  command = plan
  variables {
    client_security_group_ids = {}
  }
  expect_failures = [var.client_security_group_ids]
}

run "prefix_with_a_slash" {
  command = plan
  variables {
    access_logs_prefix = "/alb"
  }
  expect_failures = [var.access_logs_prefix]
}

run "prefix_that_elb_adds" {
  command = plan
  variables {
    access_logs_prefix = "AWSLogs"
  }
  expect_failures = [var.access_logs_prefix]
}

run "old_postgres" {
  command = plan
  variables {
    database = { engine_version = "13" }
  }
  expect_failures = [var.database]
}

run "mysql" {
  command = plan
  variables {
    database = { engine_version = "8.4" }
  }
  expect_failures = [var.database]
}

run "unknown_instance_class" {
  command = plan
  variables {
    database = { instance_class = "t3.small" }
  }
  expect_failures = [var.database]
}

run "unknown_instance_family" {
  command = plan
  variables {
    database = { instance_class = "db.x9z.small" }
  }
  expect_failures = [var.database]
}

run "too_little_storage" {
  command = plan
  variables {
    database = { allocated_storage_gib = 10 }
  }
  expect_failures = [var.database]
}

run "storage_without_room" {
  command = plan
  variables {
    database = { allocated_storage_gib = 100, max_allocated_storage_gib = 105 }
  }
  expect_failures = [var.database]
}

run "no_backups" {
  command = plan
  variables {
    database = { backup_retention_days = 0 }
  }
  expect_failures = [var.database]
}

run "too_long_backups" {
  command = plan
  variables {
    database = { backup_retention_days = 36 }
  }
  expect_failures = [var.database]
}

run "odd_monitoring_interval" {
  command = plan
  variables {
    database = { monitoring_interval_seconds = 7 }
  }
  expect_failures = [var.database]
}

run "guarded_without_snapshot" {
  command = plan
  variables {
    database = { deletion_protection = true, skip_final_snapshot = true }
  }
  expect_failures = [var.database]
}

run "domain_with_scheme" {
  command = plan
  variables {
    domain_name = "https://mlflow.example.com"
  }
  expect_failures = [var.domain_name]
}

run "moving_tag" {
  command = plan
  variables {
    image = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/ml-platform/mlflow:latest"
  }
  expect_failures = [var.image]
}

run "no_tag" {
  command = plan
  variables {
    image = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/ml-platform/mlflow"
  }
  expect_failures = [var.image]
}

run "image_of_another_registry" {
  command = plan
  variables {
    image = "docker.io/library/mlflow:3"
  }
  expect_failures = [var.image]
}

run "odd_retention" {
  command = plan
  variables {
    log_retention_days = 42
  }
  expect_failures = [var.log_retention_days]
}

run "long_name" {
  command = plan
  variables {
    name = "ml-platform-of-the-whole-company"
  }
  expect_failures = [var.name]
}

run "bad_name" {
  command = plan
  variables {
    name = "ML_Platform"
  }
  expect_failures = [var.name]
}

run "one_subnet" {
  command = plan
  variables {
    private_subnet_ids = ["subnet-a"]
  }
  expect_failures = [var.private_subnet_ids]
}

run "no_such_task_size" {
  command = plan
  variables {
    task = { cpu = 512, memory = 8192 }
  }
  expect_failures = [var.task]
}

run "too_little_memory_for_the_workers" {
  command = plan
  variables {
    task = { cpu = 512, memory = 1024, workers = 3 }
  }
  expect_failures = [var.task]
}

run "no_worker" {
  command = plan
  variables {
    task = { workers = 0 }
  }
  expect_failures = [var.task]
}

run "no_task" {
  command = plan
  variables {
    task = { min_count = 0 }
  }
  expect_failures = [var.task]
}

run "fewer_tasks_than_the_minimum" {
  command = plan
  variables {
    task = { min_count = 3, max_count = 2 }
  }
  expect_failures = [var.task]
}

run "scaling_on_nothing" {
  command = plan
  variables {
    task = { requests_per_minute = 0 }
  }
  expect_failures = [var.task]
}

run "everybody_as_a_client" {
  command = plan

  variables {
    client_cidrs = ["0.0.0.0/0"]
  }

  expect_failures = [var.client_cidrs]
}

run "an_address_inside_of_a_client_network" {
  command = plan

  variables {
    client_cidrs = ["10.0.0.1/16"]
  }

  expect_failures = [var.client_cidrs]
}
