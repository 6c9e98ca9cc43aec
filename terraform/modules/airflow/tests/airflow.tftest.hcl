mock_provider "aws" {
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }
  mock_data "aws_partition" {
    defaults = { partition = "aws" }
  }
  mock_data "aws_region" {
    defaults = { name = "eu-west-1" }
  }
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{}" }
  }
  mock_resource "aws_iam_role" {
    defaults = { arn = "arn:aws:iam::123456789012:role/ml-platform-test-airflow" }
  }
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

run "defaults" {
  command = plan

  # --- The environment

  assert {
    condition     = aws_mwaa_environment.this.airflow_version == "3.2.1" && aws_mwaa_environment.this.environment_class == "mw1.small"
    error_message = "The default is Airflow 3.2.1 on mw1.small."
  }
  assert {
    condition     = aws_mwaa_environment.this.webserver_access_mode == "PRIVATE_ONLY"
    error_message = "The web server is private unless asked otherwise."
  }
  assert {
    condition     = aws_mwaa_environment.this.kms_key == var.kms_key_arn
    error_message = "Airflow's data must be encrypted with the environment's key."
  }
  assert {
    condition = (
      aws_mwaa_environment.this.schedulers == 2 && aws_mwaa_environment.this.min_workers == 1 &&
      aws_mwaa_environment.this.max_workers == 5 && aws_mwaa_environment.this.min_webservers == 2
    )
    error_message = "Two schedulers, two web servers and one to five workers are the default."
  }
  assert {
    condition     = aws_mwaa_environment.this.network_configuration[0].subnet_ids == toset(["subnet-a", "subnet-b"])
    error_message = "MWAA takes exactly two subnets."
  }
  assert {
    condition     = aws_mwaa_environment.this.timeouts.create == "2h" && aws_mwaa_environment.this.timeouts.update == "2h"
    error_message = "An environment takes up to an hour; the timeouts must leave room."
  }
  assert {
    condition = alltrue([
      for kind in ["dag_processing_logs", "scheduler_logs", "task_logs", "webserver_logs", "worker_logs"] :
      aws_mwaa_environment.this.logging_configuration[0][kind][0].enabled &&
      aws_mwaa_environment.this.logging_configuration[0][kind][0].log_level == "INFO"
    ])
    error_message = "All five logs are on, at INFO."
  }
  assert {
    condition = toset([for group in aws_cloudwatch_log_group.this : group.name]) == toset([
      "airflow-ml-platform-test-DAGProcessing",
      "airflow-ml-platform-test-Scheduler",
      "airflow-ml-platform-test-Task",
      "airflow-ml-platform-test-WebServer",
      "airflow-ml-platform-test-Worker",
    ])
    error_message = "The log groups must be called as MWAA calls them."
  }
  assert {
    condition = alltrue([
      for group in aws_cloudwatch_log_group.this : group.retention_in_days == 90 && group.kms_key_id == var.kms_key_arn
    ])
    error_message = "Every log group has retention and the key."
  }
  assert {
    condition     = aws_iam_role.execution.name == "ml-platform-test-airflow" && aws_iam_role.execution.permissions_boundary == null
    error_message = "The role is named by the environment and has no boundary unless given."
  }
  assert {
    condition = (
      aws_vpc_security_group_egress_rule.https.from_port == 443 && aws_vpc_security_group_egress_rule.https.to_port == 443 &&
      length(aws_vpc_security_group_egress_rule.http) == 0
    )
    error_message = "Only HTTPS leaves the group by default."
  }
  assert {
    condition     = aws_mwaa_environment.this.airflow_configuration_options == tomap(yamldecode(file("configuration_options.yaml")))
    error_message = "The options are those of the file that the local platform reads, all of them and no others."
  }
  assert {
    condition     = aws_mwaa_environment.this.airflow_configuration_options["core.default_task_retries"] == "2"
    error_message = "The module's own options are set."
  }

  # --- What Terraform adds to the bundle

  assert {
    condition = (
      aws_mwaa_environment.this.dag_s3_path == "dags/" &&
      aws_mwaa_environment.this.requirements_s3_path == "requirements/requirements.txt" &&
      aws_mwaa_environment.this.startup_script_s3_path == "startup/startup.sh"
    )
    error_message = "The environment must read the objects that are written."
  }
  assert {
    condition     = aws_s3_object.constraints.key == "dags/constraints.txt" && strcontains(file("${var.dags_path}/requirements.txt"), "/usr/local/airflow/${aws_s3_object.constraints.key}")
    error_message = "requirements.txt must name the constraints where MWAA puts them."
  }
  assert {
    condition = (
      aws_mwaa_environment.this.plugins_s3_path == aws_s3_object.plugins.key &&
      aws_s3_object.plugins.source == "wheels/plugins-${substr(filesha256("${var.dags_path}/requirements.txt"), 0, 16)}.zip" &&
      aws_s3_object.plugins.source_hash == filesha256("${var.dags_path}/requirements.txt") &&
      aws_s3_object.plugins.metadata["requirements"] == filesha256("${var.dags_path}/requirements.txt")
    )
    error_message = "The wheels must be those of requirements.txt."
  }
  assert {
    condition = (
      strcontains(file("${var.dags_path}/requirements.txt"), "\n--no-index\n--find-links /usr/local/airflow/plugins\n") &&
      !strcontains(file("${var.dags_path}/requirements.txt"), "index-url")
    )
    error_message = "No start of Airflow may depend on a package index: requirements.txt must take everything from the wheels."
  }
  assert {
    condition     = jsondecode(aws_s3_object.platform.content) == jsondecode(jsonencode(var.platform)) && aws_s3_object.platform.key == "dags/platform.json"
    error_message = "platform.json is the given facts, all of them."
  }
  assert {
    condition = (
      aws_s3_object.kubeconfig.key == "dags/kubeconfig" &&
      yamldecode(aws_s3_object.kubeconfig.content)["current-context"] == "ml-platform-test" &&
      yamldecode(aws_s3_object.kubeconfig.content).clusters[0].cluster == {
        server                       = "https://cluster.example"
        "certificate-authority-data" = "Y2VydGlmaWNhdGU="
      }
    )
    error_message = "The kubeconfig must name the cluster, its address and its authority."
  }
  assert {
    condition = yamldecode(aws_s3_object.kubeconfig.content).users[0].user.exec.args == [
      "eks", "get-token", "--cluster-name", "ml-platform-test", "--region", "eu-west-1", "--output", "json"
    ]
    error_message = "The kubeconfig must get its token from `aws eks get-token`."
  }
  assert {
    condition     = !can(yamldecode(aws_s3_object.kubeconfig.content).users[0].user.token)
    error_message = "No token may be in the kubeconfig."
  }
  assert {
    condition = alltrue([
      for object in [aws_s3_object.constraints, aws_s3_object.kubeconfig, aws_s3_object.platform, aws_s3_object.requirements, aws_s3_object.startup] :
      object.kms_key_id == var.kms_key_arn
    ])
    error_message = "Every object is encrypted with the environment's key."
  }
}

# What is refused from an environment is not in the module's own file either.
run "own_options_are_among_those_that_mwaa_takes" {
  command = plan
  variables {
    configuration_options = yamldecode(file("configuration_options.yaml"))
  }

  assert {
    condition     = length(aws_mwaa_environment.this.airflow_configuration_options) == length(var.configuration_options)
    error_message = "The file laid over itself is the file."
  }
}

# Versions are known after apply only.
run "versions_are_wired" {
  assert {
    condition     = aws_mwaa_environment.this.requirements_s3_object_version == aws_s3_object.requirements.version_id
    error_message = "A new requirements.txt must update the environment."
  }
  assert {
    condition     = aws_mwaa_environment.this.plugins_s3_object_version == aws_s3_object.plugins.version_id
    error_message = "New wheels must update the environment."
  }
  assert {
    condition     = aws_mwaa_environment.this.startup_script_s3_object_version == aws_s3_object.startup.version_id
    error_message = "A new startup.sh must update the environment."
  }
  assert {
    condition     = aws_vpc_security_group_ingress_rule.self.referenced_security_group_id == aws_security_group.this.id
    error_message = "Only the group itself comes in."
  }
  assert {
    condition     = output.log_group_names["Scheduler"] == "airflow-ml-platform-test-Scheduler" && output.environment_name == "ml-platform-test"
    error_message = "The outputs name what was made."
  }
}

run "micro" {
  command = plan
  variables {
    environment_class = "mw1.micro"
  }

  assert {
    condition = (
      aws_mwaa_environment.this.schedulers == 1 && aws_mwaa_environment.this.min_workers == 1 &&
      aws_mwaa_environment.this.max_workers == 1 && aws_mwaa_environment.this.min_webservers == 1 &&
      aws_mwaa_environment.this.max_webservers == 1
    )
    error_message = "mw1.micro is one of each."
  }
}

run "switches" {
  command = plan
  variables {
    client_cidrs              = ["10.8.0.0/16"]
    client_security_group_ids = { bastion = "sg-0123456789abcdef0" }
    webserver_access_mode     = "PUBLIC_ONLY"
    log_level                 = "WARNING"
    log_retention_days        = 30
    http_egress_cidrs         = ["10.20.0.0/16"]
    smtp_egress_cidrs         = ["10.30.0.0/16"]
    permissions_boundary_arn  = "arn:aws:iam::123456789012:policy/boundary"
    maintenance_window_start  = "TUE:03:30"
    schedulers                = 3
    min_workers               = 2
    max_workers               = 10
    configuration_options     = { "core.parallelism" = "64", "core.default_task_retries" = "0", "metrics.metrics_allow_list" = "scheduler" }
  }

  assert {
    condition = (
      aws_vpc_security_group_ingress_rule.client_security_groups["bastion"].referenced_security_group_id == "sg-0123456789abcdef0" &&
      aws_vpc_security_group_ingress_rule.client_security_groups["bastion"].to_port == 443 &&
      [for rule in aws_vpc_security_group_ingress_rule.client_cidrs : "${rule.cidr_ipv4} ${rule.from_port}-${rule.to_port}"] == ["10.8.0.0/16 443-443"]
    )
    error_message = "Named clients reach Airflow's page, and nothing else of it."
  }
  assert {
    condition = (
      aws_mwaa_environment.this.webserver_access_mode == "PUBLIC_ONLY" && aws_mwaa_environment.this.schedulers == 3 &&
      aws_mwaa_environment.this.min_workers == 2 && aws_mwaa_environment.this.max_workers == 10 &&
      aws_mwaa_environment.this.weekly_maintenance_window_start == "TUE:03:30" &&
      aws_mwaa_environment.this.logging_configuration[0].task_logs[0].log_level == "WARNING"
    )
    error_message = "What is asked must be set."
  }
  assert {
    condition     = aws_cloudwatch_log_group.this["Task"].retention_in_days == 30
    error_message = "Retention is a variable."
  }
  assert {
    condition     = aws_vpc_security_group_egress_rule.http["10.20.0.0/16"].to_port == 80
    error_message = "Plain HTTP is let out to the given blocks."
  }
  assert {
    condition     = aws_vpc_security_group_egress_rule.smtp["10.30.0.0/16"].from_port == 587
    error_message = "Mail is let out to the given blocks."
  }
  assert {
    condition     = aws_iam_role.execution.permissions_boundary == "arn:aws:iam::123456789012:policy/boundary"
    error_message = "The boundary must be on the role."
  }
  assert {
    condition = (
      aws_mwaa_environment.this.airflow_configuration_options["core.parallelism"] == "64" &&
      aws_mwaa_environment.this.airflow_configuration_options["core.default_task_retries"] == "0" &&
      aws_mwaa_environment.this.airflow_configuration_options["core.dagbag_import_timeout"] == "60"
    )
    error_message = "Given options are added to, and win over, the module's own."
  }
}
