data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

locals {
  account_id = data.aws_caller_identity.current.account_id
  partition  = data.aws_partition.current.partition

  state_bucket = "${var.name}-terraform-state-${local.account_id}"
  repositories = toset(["deployer", "mlflow", "serving", "trainer", "trainer-cuda"])
}
