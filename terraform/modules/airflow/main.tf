data "aws_caller_identity" "current" {}
data "aws_partition" "current" {}
data "aws_region" "current" {}

locals {
  global_name = coalesce(var.global_name, var.name)
  account_id  = data.aws_caller_identity.current.account_id
  partition   = data.aws_partition.current.partition
  region      = data.aws_region.current.name

  # Put together, not read from the resource: the role's trust needs it before the environment exists.
  environment_arn = "arn:${local.partition}:airflow:${local.region}:${local.account_id}:environment/${var.name}"

  # mw1.micro is one container of each kind and cannot be scaled; every other class needs two or more.
  micro       = var.environment_class == "mw1.micro"
  schedulers  = coalesce(var.schedulers, local.micro ? 1 : 2)
  max_workers = coalesce(var.max_workers, local.micro ? 1 : 5)
  webservers  = local.micro ? 1 : 2

  # The local platform reads the same file.
  configuration_options = merge(yamldecode(file("${path.module}/configuration_options.yaml")), var.configuration_options)
}

resource "aws_mwaa_environment" "this" {
  name                            = var.name
  airflow_version                 = var.airflow_version
  environment_class               = var.environment_class
  schedulers                      = local.schedulers
  min_workers                     = var.min_workers
  max_workers                     = local.max_workers
  min_webservers                  = local.webservers
  max_webservers                  = local.webservers
  webserver_access_mode           = var.webserver_access_mode
  weekly_maintenance_window_start = var.maintenance_window_start

  execution_role_arn = aws_iam_role.execution.arn
  kms_key            = var.kms_key_arn

  source_bucket_arn                = var.dags_bucket.arn
  dag_s3_path                      = "dags/"
  plugins_s3_path                  = aws_s3_object.plugins.key
  plugins_s3_object_version        = aws_s3_object.plugins.version_id
  requirements_s3_path             = aws_s3_object.requirements.key
  requirements_s3_object_version   = aws_s3_object.requirements.version_id
  startup_script_s3_path           = aws_s3_object.startup.key
  startup_script_s3_object_version = aws_s3_object.startup.version_id

  airflow_configuration_options = local.configuration_options

  network_configuration {
    security_group_ids = [aws_security_group.this.id]
    subnet_ids         = slice(var.private_subnet_ids, 0, 2) # MWAA takes two, no more
  }

  logging_configuration {
    dag_processing_logs {
      enabled   = true
      log_level = var.log_level
    }
    scheduler_logs {
      enabled   = true
      log_level = var.log_level
    }
    task_logs {
      enabled   = true
      log_level = var.log_level
    }
    webserver_logs {
      enabled   = true
      log_level = var.log_level
    }
    worker_logs {
      enabled   = true
      log_level = var.log_level
    }
  }

  timeouts {
    create = "2h"
    update = "2h"
    delete = "2h"
  }

  # Not platform.json and the kubeconfig: those wait for the cluster, and the environment, the slowest of all to make,
  # should not. They are there before the first DAG is.
  depends_on = [
    aws_cloudwatch_log_group.this, # or MWAA makes them, without retention and key
    aws_iam_role_policy.execution, # MWAA checks the role's rights when it starts
    aws_s3_object.constraints,     # requirements.txt names it
    aws_vpc_security_group_ingress_rule.self,
    aws_vpc_security_group_egress_rule.https,
    aws_vpc_security_group_egress_rule.self,
  ]
}
