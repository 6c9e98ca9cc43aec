data "aws_caller_identity" "current" {}
data "aws_partition" "current" {}
data "aws_region" "current" {}

locals {
  global_name = coalesce(var.global_name, var.name)
  account_id  = data.aws_caller_identity.current.account_id
  partition   = data.aws_partition.current.partition
  region      = data.aws_region.current.name

  # Must be the deployer's: alarms and scaling name it (VARIANT in containers/deployer/src/deployer/plan.py).
  variant = "primary"

  endpoint_names = { for dataset in keys(var.endpoints) : dataset => "${var.name}-${dataset}" }
  at_rest        = { for dataset, endpoint in var.endpoints : dataset => endpoint if endpoint.at_rest }
  capture_uri    = "s3://${var.data_bucket.name}/capture/${var.name}-{dataset}"
  capture_uris   = { for dataset in keys(var.endpoints) : dataset => replace(local.capture_uri, "{dataset}", dataset) }

  # As the deployer tags what it makes (make_tags in plan.py), so that costs can be told apart from the first hour on.
  owners = { for dataset, owner in var.owners : dataset => replace(owner, "/[^\\p{L}\\p{N}_ .:\\/=+@-]/", "_") }
  tags = {
    for dataset in keys(var.endpoints) : dataset => merge(
      { dataset = dataset },
      {
        for owner in [for name, owner in local.owners : owner if name == dataset] :
        "owner" => length(owner) <= 256 ? owner : join("-", [
          replace(substr(owner, 0, 247), "/-+$/", ""), substr(sha256(owner), 0, 8),
        ])
      },
    )
  }

  # The container needs no network: SageMaker itself fetches the model and writes captured data.
  network_isolation = true

  # Instances with local NVMe disks encrypt them in hardware; SageMaker refuses a key for them. The deployer gets this.
  local_disks = "^ml\\.(m5d|c5d|r5d|g4dn|g5|g6e?|p4de?|p5|p5en?)\\."
}

# The bootstrap pair is made once and never again. Its attributes cannot be changed in place, so any change (a new
# image, other sizes, another key) would mean to delete it and make another one, and the deleted one may be what is
# live, or what a deployment under way has to roll back to. What runs is the deployer's business anyway.
resource "aws_sagemaker_model" "bootstrap" {
  for_each = local.at_rest

  name               = "${local.endpoint_names[each.key]}-bootstrap"
  execution_role_arn = aws_iam_role.execution.arn
  tags               = local.tags[each.key]

  enable_network_isolation = local.network_isolation

  primary_container {
    image       = var.image
    environment = var.environment_variables
  }

  dynamic "vpc_config" {
    for_each = var.vpc_config[*]

    content {
      security_group_ids = [aws_security_group.this[0].id]
      subnets            = vpc_config.value.subnet_ids
    }
  }

  lifecycle {
    ignore_changes = all
  }

  # SageMaker looks whether the role may read the image.
  depends_on = [aws_iam_role_policy.execution]
}

resource "aws_sagemaker_endpoint_configuration" "bootstrap" {
  for_each = local.at_rest

  name        = "${local.endpoint_names[each.key]}-bootstrap"
  kms_key_arn = can(regex(local.local_disks, each.value.instance_type)) ? null : var.kms_key_arn
  tags        = local.tags[each.key]

  production_variants {
    variant_name                                      = local.variant
    model_name                                        = aws_sagemaker_model.bootstrap[each.key].name
    instance_type                                     = each.value.instance_type
    initial_instance_count                            = each.value.instance_count
    initial_variant_weight                            = 1
    container_startup_health_check_timeout_in_seconds = each.value.startup_timeout_seconds
  }

  dynamic "data_capture_config" {
    for_each = each.value.data_capture_percentage > 0 ? [each.value.data_capture_percentage] : []

    content {
      enable_capture              = true
      initial_sampling_percentage = data_capture_config.value
      destination_s3_uri          = local.capture_uris[each.key]
      kms_key_id                  = var.kms_key_arn

      capture_options {
        capture_mode = "Input"
      }

      capture_options {
        capture_mode = "Output"
      }

      # Without these the records are base64.
      capture_content_type_header {
        csv_content_types  = ["text/csv"]
        json_content_types = ["application/json"]
      }
    }
  }

  lifecycle {
    ignore_changes = all
  }
}

resource "aws_sagemaker_endpoint" "this" {
  for_each = local.at_rest

  name                 = local.endpoint_names[each.key]
  endpoint_config_name = aws_sagemaker_endpoint_configuration.bootstrap[each.key].name
  tags                 = local.tags[each.key]

  lifecycle {
    # Which configuration is live, and how it got there, is the deployer's decision. Without this, the next apply after
    # a deployment would put the bootstrap container back. So are its own tags, which say what is live and whose it is;
    # those of the provider's default_tags are Terraform's.
    ignore_changes = [endpoint_config_name, deployment_config, tags]
  }

  depends_on = [aws_cloudwatch_log_group.endpoint, aws_iam_role_policy.execution]
}

# Made here, because SageMaker would make it without an end of retention and without a key.
resource "aws_cloudwatch_log_group" "endpoint" {
  for_each = local.endpoint_names

  name              = "/aws/sagemaker/Endpoints/${each.value}"
  retention_in_days = var.log_retention_days
  kms_key_id        = var.kms_key_arn
}
