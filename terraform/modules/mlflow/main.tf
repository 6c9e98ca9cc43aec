data "aws_caller_identity" "current" {}
data "aws_partition" "current" {}
data "aws_region" "current" {}

locals {
  global_name = "${coalesce(var.global_name, var.name)}-mlflow"
  account_id  = data.aws_caller_identity.current.account_id
  partition   = data.aws_partition.current.partition
  region      = data.aws_region.current.name

  name        = "${var.name}-mlflow"
  domain_name = coalesce(var.domain_name, "mlflow.${var.name}.internal")
  https       = var.certificate_arn != null
  scheme      = local.https ? "https" : "http"
  port        = 5000

  artifacts_prefix = "mlflow"
  studies_database = "studies"
}
