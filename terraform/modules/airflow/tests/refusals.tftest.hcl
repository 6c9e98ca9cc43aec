# Each value here must be refused by its variable, before anything is asked or made.

mock_provider "aws" {
  source = "../../testing/mocks"
}

variables {
  name               = "ml-platform-test"
  vpc_id             = "vpc-1"
  private_subnet_ids = ["subnet-a", "subnet-b", "subnet-c"]
  kms_key_arn        = "arn:aws:kms:eu-west-1:123456789012:key/00000000-0000-0000-0000-000000000000"
  topic_arn          = "arn:aws:sns:eu-west-1:123456789012:ml-platform-test-notifications"
  dags_path          = "../../../dags"
  wheels_path        = "wheels"
  dags_bucket        = { name = "ml-platform-test-dags", arn = "arn:aws:s3:::ml-platform-test-dags" }
  buckets = {
    landing   = { name = "landing", arn = "arn:aws:s3:::landing" }
    data      = { name = "data", arn = "arn:aws:s3:::data" }
    artifacts = { name = "artifacts", arn = "arn:aws:s3:::artifacts" }
  }
  cluster = {
    name                  = "ml-platform-test"
    arn                   = "arn:aws:eks:eu-west-1:123456789012:cluster/ml-platform-test"
    endpoint              = "https://cluster.example"
    certificate_authority = "Y2VydGlmaWNhdGU="
  }
  platform = {
    environment   = "dev"
    git_sha       = "0123456"
    aws           = { region = "eu-west-1", account_id = "123456789012" }
    buckets       = { landing = "landing", data = "data", artifacts = "artifacts" }
    kubernetes    = { kubeconfig = "kubeconfig", context = "ml-platform-test" }
    images        = { trainer = "trainer@sha256:1", trainer_cuda = "trainer-cuda@sha256:4", deployer = "deployer@sha256:2", serving = "serving@sha256:3" }
    mlflow        = { tracking_uri = "https://mlflow.example" }
    serving       = { execution_role_arn = "arn:aws:iam::123456789012:role/serving", endpoint_name = "ml-platform-test-{dataset}" }
    notifications = { topic_arn = "arn:aws:sns:eu-west-1:123456789012:ml-platform-test-notifications" }
  }
}

run "airflow_2" {
  command = plan
  variables {
    airflow_version = "2.10.3"
  }
  expect_failures = [var.airflow_version]
}

run "airflow_without_approval" {
  command = plan
  variables {
    airflow_version = "3.0.6"
  }
  expect_failures = [var.airflow_version]
}

run "unknown_class" {
  command = plan
  variables {
    environment_class = "mw1.tiny"
  }
  expect_failures = [var.environment_class]
}

run "micro_with_two_schedulers" {
  command = plan
  variables {
    environment_class = "mw1.micro"
    schedulers        = 2
  }
  expect_failures = [var.schedulers]
}

run "small_with_one_scheduler" {
  command = plan
  variables {
    schedulers = 1
  }
  expect_failures = [var.schedulers]
}

run "micro_with_autoscaling" {
  command = plan
  variables {
    environment_class = "mw1.micro"
    max_workers       = 2
  }
  expect_failures = [var.max_workers]
}

run "micro_with_two_workers" {
  command = plan
  variables {
    environment_class = "mw1.micro"
    min_workers       = 2
  }
  expect_failures = [var.min_workers]
}

run "no_worker" {
  command = plan
  variables {
    min_workers = 0
  }
  expect_failures = [var.min_workers]
}

run "fewer_workers_than_the_minimum" {
  command = plan
  variables {
    min_workers = 3
    max_workers = 2
  }
  expect_failures = [var.max_workers]
}

run "more_workers_than_mwaa_has" {
  command = plan
  variables {
    max_workers = 26
  }
  expect_failures = [var.max_workers]
}

run "unknown_access_mode" {
  command = plan
  variables {
    webserver_access_mode = "PUBLIC"
  }
  expect_failures = [var.webserver_access_mode]
}

run "one_subnet" {
  command = plan
  variables {
    private_subnet_ids = ["subnet-a"]
  }
  expect_failures = [var.private_subnet_ids]
}

run "unknown_log_level" {
  command = plan
  variables {
    log_level = "TRACE"
  }
  expect_failures = [var.log_level]
}

run "odd_retention" {
  command = plan
  variables {
    log_retention_days = 42
  }
  expect_failures = [var.log_retention_days]
}

run "no_such_hour" {
  command = plan
  variables {
    maintenance_window_start = "SUN:24:00"
  }
  expect_failures = [var.maintenance_window_start]
}

run "bad_name" {
  command = plan
  variables {
    name = "ML_Platform"
  }
  expect_failures = [var.name]
}

run "plain_http_to_the_world" {
  command = plan
  variables {
    http_egress_cidrs = ["0.0.0.0/0"]
  }
  expect_failures = [var.http_egress_cidrs]
}

run "http_to_no_block" {
  command = plan
  variables {
    http_egress_cidrs = ["vpc"]
  }
  expect_failures = [var.http_egress_cidrs]
}

run "mail_to_no_block" {
  command = plan
  variables {
    smtp_egress_cidrs = ["mail.example.org"]
  }
  expect_failures = [var.smtp_egress_cidrs]
}

run "folder_without_requirements" {
  command = plan
  variables {
    dags_path = "./templates"
  }
  expect_failures = [var.dags_path]
}

run "option_without_section" {
  command = plan
  variables {
    configuration_options = { parallelism = "64" }
  }
  expect_failures = [var.configuration_options]
}

run "executor_of_ones_own" {
  command = plan
  variables {
    configuration_options = { "core.executor" = "LocalExecutor" }
  }
  expect_failures = [var.configuration_options]
}

run "auth_manager_of_ones_own" {
  command = plan
  variables {
    configuration_options = { "core.auth_manager" = "x" }
  }
  expect_failures = [var.configuration_options]
}

run "database_of_ones_own" {
  command = plan
  variables {
    configuration_options = { "database.sql_alchemy_conn" = "x" }
  }
  expect_failures = [var.configuration_options]
}

run "broker_of_ones_own" {
  command = plan
  variables {
    configuration_options = { "celery.broker_url" = "x" }
  }
  expect_failures = [var.configuration_options]
}

run "token_settings" {
  command = plan
  variables {
    configuration_options = { "api_auth.jwt_secret" = "x" }
  }
  expect_failures = [var.configuration_options]
}

run "metrics_elsewhere" {
  command = plan
  variables {
    configuration_options = { "metrics.statsd_host" = "x" }
  }
  expect_failures = [var.configuration_options]
}

run "several_teams" {
  command = plan
  variables {
    configuration_options = { "core.multi_team" = "x" }
  }
  expect_failures = [var.configuration_options]
}

run "queues_of_triggerers" {
  command = plan
  variables {
    configuration_options = { "triggerer.queues_enabled" = "x" }
  }
  expect_failures = [var.configuration_options]
}

run "another_address" {
  command = plan
  variables {
    configuration_options = { "api.base_url" = "x" }
  }
  expect_failures = [var.configuration_options]
}

run "celery_s_own_settings" {
  command = plan
  variables {
    configuration_options = { "celery.extra_celery_config" = "x" }
  }
  expect_failures = [var.configuration_options]
}

run "platform_without_mlflow" {
  command = plan
  variables {
    platform = {
      environment   = "dev"
      git_sha       = "0123456"
      aws           = { region = "eu-west-1", account_id = "123456789012" }
      buckets       = { landing = "landing", data = "data", artifacts = "artifacts" }
      kubernetes    = { kubeconfig = "kubeconfig", context = "ml-platform-test" }
      images        = { trainer = "trainer@sha256:1", trainer_cuda = "trainer-cuda@sha256:4", deployer = "deployer@sha256:2", serving = "serving@sha256:3" }
      serving       = { execution_role_arn = "arn:aws:iam::123456789012:role/serving", endpoint_name = "ml-platform-test-{dataset}" }
      notifications = { topic_arn = "arn:aws:sns:eu-west-1:123456789012:ml-platform-test-notifications" }
    }
  }
  expect_failures = [var.platform]
}

run "platform_without_an_image" {
  command = plan
  variables {
    platform = {
      environment   = "dev"
      git_sha       = "0123456"
      aws           = { region = "eu-west-1", account_id = "123456789012" }
      buckets       = { landing = "landing", data = "data", artifacts = "artifacts" }
      kubernetes    = { kubeconfig = "kubeconfig", context = "ml-platform-test" }
      images        = { trainer = "trainer@sha256:1", trainer_cuda = "trainer-cuda@sha256:4", deployer = "deployer@sha256:2" }
      mlflow        = { tracking_uri = "https://mlflow.example" }
      serving       = { execution_role_arn = "arn:aws:iam::123456789012:role/serving", endpoint_name = "ml-platform-test-{dataset}" }
      notifications = { topic_arn = "arn:aws:sns:eu-west-1:123456789012:ml-platform-test-notifications" }
    }
  }
  expect_failures = [var.platform]
}

run "kubeconfig_elsewhere" {
  command = plan
  variables {
    platform = {
      environment   = "dev"
      git_sha       = "0123456"
      aws           = { region = "eu-west-1", account_id = "123456789012" }
      buckets       = { landing = "landing", data = "data", artifacts = "artifacts" }
      kubernetes    = { kubeconfig = "/root/.kube/config", context = "ml-platform-test" }
      images        = { trainer = "trainer@sha256:1", trainer_cuda = "trainer-cuda@sha256:4", deployer = "deployer@sha256:2", serving = "serving@sha256:3" }
      mlflow        = { tracking_uri = "https://mlflow.example" }
      serving       = { execution_role_arn = "arn:aws:iam::123456789012:role/serving", endpoint_name = "ml-platform-test-{dataset}" }
      notifications = { topic_arn = "arn:aws:sns:eu-west-1:123456789012:ml-platform-test-notifications" }
    }
  }
  expect_failures = [var.platform]
}

run "context_of_another_cluster" {
  command = plan
  variables {
    platform = {
      environment   = "dev"
      git_sha       = "0123456"
      aws           = { region = "eu-west-1", account_id = "123456789012" }
      buckets       = { landing = "landing", data = "data", artifacts = "artifacts" }
      kubernetes    = { kubeconfig = "kubeconfig", context = "other" }
      images        = { trainer = "trainer@sha256:1", trainer_cuda = "trainer-cuda@sha256:4", deployer = "deployer@sha256:2", serving = "serving@sha256:3" }
      mlflow        = { tracking_uri = "https://mlflow.example" }
      serving       = { execution_role_arn = "arn:aws:iam::123456789012:role/serving", endpoint_name = "ml-platform-test-{dataset}" }
      notifications = { topic_arn = "arn:aws:sns:eu-west-1:123456789012:ml-platform-test-notifications" }
    }
  }
  expect_failures = [var.platform]
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
