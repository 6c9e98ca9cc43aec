# Each value here must be refused by its variable, before anything is asked or made.

mock_provider "aws" {
  source = "../../testing/mocks"
}

variables {
  environment         = "dev"
  region              = "us-east-1"
  deletion_protection = false
  runbook_base_url    = "https://example.com/runbooks"
  log_retention_days  = 14

  images = {
    deployer     = "123456789012.dkr.ecr.us-east-1.amazonaws.com/ml-platform/deployer@sha256:0000000000000000000000000000000000000000000000000000000000000000"
    mlflow       = "123456789012.dkr.ecr.us-east-1.amazonaws.com/ml-platform/mlflow@sha256:0000000000000000000000000000000000000000000000000000000000000000"
    serving      = "123456789012.dkr.ecr.us-east-1.amazonaws.com/ml-platform/serving@sha256:0000000000000000000000000000000000000000000000000000000000000000"
    trainer      = "123456789012.dkr.ecr.us-east-1.amazonaws.com/ml-platform/trainer@sha256:0000000000000000000000000000000000000000000000000000000000000000"
    trainer_cuda = "123456789012.dkr.ecr.us-east-1.amazonaws.com/ml-platform/trainer-cuda@sha256:0000000000000000000000000000000000000000000000000000000000000000"
  }

  network = { cidr = "10.20.0.0/16", zones = 2, single_nat_gateway = true, interface_endpoints = [] }

  cluster = {
    kubernetes_version = "1.36"
    system             = { instance_types = ["t3.large"], min_size = 2, max_size = 3 }
    cpu                = { instance_types = ["m6i.xlarge"], max_size = 4, spot = true }
    gpu                = { instance_types = ["g4dn.xlarge"], max_size = 2, on_demand_max_size = 1 }
  }

  airflow = { environment_class = "mw1.micro", min_workers = 1, max_workers = 1, schedulers = 1 }

  mlflow = {
    allow_http              = true
    database_class          = "db.t4g.micro"
    database_storage_gib    = 20
    database_multi_az       = false
    backup_retention_days   = 1
    final_database_snapshot = false
    task_cpu                = 512
    task_memory             = 1024
    min_tasks               = 1
    max_tasks               = 1
  }

  endpoints = { flights = { instance_type = "ml.t2.medium", instance_count = 1, max_instance_count = 1 } }

  budget = {
    monthly_limit_usd = 900
    shutdown          = { stop = "cron(0 20 ? * MON-FRI *)", start = "cron(0 7 ? * MON-FRI *)" }
  }
}

run "production_without_protection_is_refused" {
  command = plan

  variables {
    environment = "prod"
  }

  expect_failures = [var.deletion_protection]
}

run "an_unknown_environment_is_refused" {
  command = plan

  variables {
    environment = "production"
  }

  expect_failures = [var.environment]
}

run "an_image_by_tag_is_refused" {
  command = plan

  variables {
    images = {
      deployer     = "123456789012.dkr.ecr.us-east-1.amazonaws.com/ml-platform/deployer:latest"
      mlflow       = "123456789012.dkr.ecr.us-east-1.amazonaws.com/ml-platform/mlflow@sha256:0000000000000000000000000000000000000000000000000000000000000000"
      serving      = "123456789012.dkr.ecr.us-east-1.amazonaws.com/ml-platform/serving@sha256:0000000000000000000000000000000000000000000000000000000000000000"
      trainer      = "123456789012.dkr.ecr.us-east-1.amazonaws.com/ml-platform/trainer@sha256:0000000000000000000000000000000000000000000000000000000000000000"
      trainer_cuda = "123456789012.dkr.ecr.us-east-1.amazonaws.com/ml-platform/trainer-cuda@sha256:0000000000000000000000000000000000000000000000000000000000000000"
    }
  }

  expect_failures = [var.images]
}

run "an_endpoint_that_is_no_dataset_is_refused" {
  command = plan

  variables {
    endpoints = { "Flights_1" = { instance_type = "ml.t2.medium", instance_count = 1, max_instance_count = 1 } }
  }

  expect_failures = [var.endpoints]
}

run "an_address_that_is_none_is_refused" {
  command = plan

  variables {
    alert_email_addresses = ["on-call"]
  }

  expect_failures = [var.alert_email_addresses]
}

run "a_private_client_that_is_no_network_is_refused" {
  command = plan

  variables {
    private_client_cidrs = ["10.0.0.1/16"]
  }

  expect_failures = [var.private_client_cidrs]
}

run "public_addresses_are_no_private_clients" {
  command = plan

  variables {
    private_client_cidrs = ["8.8.8.0/24"]
  }

  expect_failures = [var.private_client_cidrs]
}

run "everybody_is_no_private_client" {
  command = plan

  variables {
    private_client_cidrs = ["0.0.0.0/0"]
  }

  expect_failures = [var.private_client_cidrs]
}

run "more_than_a_private_range_is_refused" {
  command = plan

  variables {
    private_client_cidrs = ["172.0.0.0/8"]
  }

  expect_failures = [var.private_client_cidrs]
}

run "a_private_client_is_named_once" {
  command = plan

  variables {
    private_client_cidrs = ["10.0.0.0/16", "10.0.0.0/16"]
  }

  expect_failures = [var.private_client_cidrs]
}

run "a_private_client_that_is_no_security_group_is_refused" {
  command = plan

  variables {
    private_client_security_group_ids = { vpn = "vpn" }
  }

  expect_failures = [var.private_client_security_group_ids]
}

run "a_private_client_does_not_take_the_place_of_airflow" {
  command = plan

  variables {
    private_client_security_group_ids = { airflow = "sg-0123456789abcdef0" }
  }

  expect_failures = [var.private_client_security_group_ids]
}

run "a_security_group_is_named_once" {
  command = plan

  variables {
    private_client_security_group_ids = { vpn = "sg-0123456789abcdef0", office = "sg-0123456789abcdef0" }
  }

  expect_failures = [var.private_client_security_group_ids]
}
