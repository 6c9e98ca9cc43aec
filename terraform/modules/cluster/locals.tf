data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

data "aws_region" "current" {}

locals {
  account_id = data.aws_caller_identity.current.account_id
  partition  = data.aws_partition.current.partition
  region     = data.aws_region.current.name

  # Written out instead of read from the cluster, so that roles are made while the cluster is.
  cluster_arn = "arn:${local.partition}:eks:${local.region}:${local.account_id}:cluster/${var.name}"

  # The nodes run Bottlerocket for x86_64, so Arm families (m7g, g5g …) are not listed.
  general_instance_families = [
    "c5", "c5a", "c6a", "c6i", "c7a", "c7i", "m5", "m5a", "m6a", "m6i", "m7a", "m7i", "m7i-flex",
    "r5", "r5a", "r6a", "r6i", "r7a", "r7i", "t3", "t3a",
  ]
  # NVIDIA Turing and newer: what current drivers still support.
  gpu_instance_families = ["g4dn", "g5", "g6", "g6e", "gr6", "p4d", "p4de", "p5", "p5e", "p5en"]

  general_instance_type = "^(${join("|", local.general_instance_families)})[.][a-z0-9-]+$"
  gpu_instance_type     = "^(${join("|", local.gpu_instance_families)})[.][a-z0-9-]+$"
}
