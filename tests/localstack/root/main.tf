# The modules whose services LocalStack has, as an environment puts them together, and what the others would add to the
# DAG bucket. Where the services are comes from the environment (AWS_ENDPOINT_URL).

terraform {
  required_version = ">= 1.11, < 2.0"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 5.100"
    }
  }
}

provider "aws" {
  s3_use_path_style = true # LocalStack has one address for all buckets

  default_tags {
    tags = {
      Project     = "ml-platform"
      Environment = "test"
      ManagedBy   = "terraform"
    }
  }
}

locals {
  name = "ml-platform-test"
}

data "aws_caller_identity" "current" {}

data "aws_region" "current" {}

module "storage" {
  source = "../../../terraform/modules/storage"

  name                    = local.name
  bucket_suffix           = data.aws_caller_identity.current.account_id
  deletion_protection     = false
  landing_expiration_days = 30
  noncurrent_version_days = 14
}

module "network" {
  source = "../../../terraform/modules/network"

  name                    = local.name
  availability_zones      = [for letter in ["a", "b"] : "${data.aws_region.current.name}${letter}"]
  single_nat_gateway      = false
  flow_log_retention_days = 30
  kms_key_arn             = module.storage.kms_key_arn
}

module "observability" {
  source = "../../../terraform/modules/observability"

  name                           = local.name
  kms_key_arn                    = module.storage.kms_key_arn
  email_addresses                = ["ml-team@example.com"]
  runbook_base_url               = "https://example.com/runbooks"
  airflow_environment_name       = local.name
  cluster_name                   = local.name
  endpoint_names                 = { flights = "${local.name}-flights" }
  landing_dead_letter_queue_name = module.storage.landing_dead_letter_queue_name

  mlflow = {
    load_balancer_arn_suffix = "app/${local.name}-mlflow/0123456789abcdef"
    target_group_arn_suffix  = "targetgroup/${local.name}-mlflow/0123456789abcdef"
    database_identifier      = "${local.name}-mlflow"
  }
}

# The airflow module writes these in an environment; it needs MWAA, which LocalStack has not.
resource "aws_s3_object" "wheels" {
  bucket   = module.storage.buckets["dags"].name
  key      = "plugins/plugins.zip"
  content  = "wheels"
  metadata = { requirements = filesha256("${var.project}/dags/requirements.txt") }
}

resource "aws_s3_object" "airflow" {
  for_each = {
    "dags/constraints.txt"          = file("${var.project}/dags/constraints.txt")
    "dags/kubeconfig"               = "apiVersion: v1\nkind: Config\n"
    "dags/platform.json"            = local.platform
    "requirements/requirements.txt" = file("${var.project}/dags/requirements.txt")
    "startup/startup.sh"            = file("${var.project}/dags/startup.sh")
  }

  bucket  = module.storage.buckets["dags"].name
  key     = each.key
  content = each.value
}

locals {
  platform = jsonencode({
    environment   = "dev"
    git_sha       = "0123456789012345678901234567890123456789"
    aws           = { region = data.aws_region.current.name, account_id = data.aws_caller_identity.current.account_id }
    buckets       = { for purpose in ["landing", "data", "artifacts"] : purpose => module.storage.buckets[purpose].name }
    kubernetes    = { kubeconfig = "kubeconfig", context = local.name }
    images        = { for image in ["trainer", "trainer_cuda", "deployer", "serving"] : image => "registry.example/${image}@sha256:0123" }
    mlflow        = { tracking_uri = "http://mlflow.${local.name}.internal" }
    serving       = { execution_role_arn = "arn:aws:iam::123456789012:role/serving", endpoint_name = "${local.name}-{dataset}" }
    notifications = { topic_arn = module.observability.notifications_topic_arn }
  })
}
