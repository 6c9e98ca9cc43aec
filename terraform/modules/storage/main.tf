data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

data "aws_region" "current" {}

locals {
  account_id = data.aws_caller_identity.current.account_id
  partition  = data.aws_partition.current.partition
  region     = data.aws_region.current.name

  # What each bucket holds, and what follows from it.
  #   kept             whether deletion_protection is about it: what is in it cannot be made again
  #   key              whether the environment's key encrypts it; see logs.tf for the one that cannot
  #   minimum_versions older versions that stay however old they are
  buckets = {
    landing   = { kept = true, key = true, minimum_versions = null }
    data      = { kept = true, key = true, minimum_versions = null }
    artifacts = { kept = true, key = true, minimum_versions = null }
    # Everything in it comes from the repository. Airflow pins versions of its requirements and start-up script, and
    # stays on an older one when an update fails: they must not expire under it.
    dags = { kept = false, key = true, minimum_versions = 5 }
    logs = { kept = true, key = false, minimum_versions = null }
  }

  bucket_names = { for purpose, bucket in local.buckets : purpose => "${var.name}-${purpose}-${var.bucket_suffix}" }

  # Put together from the name instead of taken from the resource: policies can be read in the plan then.
  bucket_arns = { for purpose, name in local.bucket_names : purpose => "arn:${local.partition}:s3:::${name}" }
}
