data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

module "names" {
  source = "../modules/names"

  name            = local.platform.name
  region          = var.region
  region_in_names = local.platform.region_in_names
}

locals {
  platform   = yamldecode(file("${path.module}/../platform.yaml"))
  name       = module.names.name
  account_id = data.aws_caller_identity.current.account_id
  partition  = data.aws_partition.current.partition

  # What names in an environment are like, of what the account has once: <name>-<environment>-<region>.
  global_names  = "${local.name}-*${module.names.region_suffix}"
  bucket_suffix = "${local.account_id}${module.names.region_suffix}"

  state_bucket = "${local.name}-terraform-state-${local.bucket_suffix}"
  repositories = toset(["deployer", "mlflow", "serving", "trainer", "trainer-cuda"])
}
