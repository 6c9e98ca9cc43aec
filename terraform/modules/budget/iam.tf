data "aws_iam_policy_document" "trust" {
  count = local.on ? 1 : 0

  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["scheduler.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [local.account_id]
    }

    # The group, not the schedules: that is what EventBridge Scheduler names.
    condition {
      test     = "ArnEquals"
      variable = "aws:SourceArn"
      values   = ["arn:${local.partition}:scheduler:${local.region}:${local.account_id}:schedule-group/${var.name}-shutdown"]
    }
  }
}

resource "aws_iam_role" "shutdown" {
  count = local.on ? 1 : 0

  name               = "${local.global_name}-shutdown"
  description        = "EventBridge Scheduler: stop ${var.name} at night and start it in the morning."
  assume_role_policy = data.aws_iam_policy_document.trust[0].json

  permissions_boundary = var.permissions_boundary_arn
}

data "aws_iam_policy_document" "shutdown" {
  count = local.on ? 1 : 0

  dynamic "statement" {
    for_each = local.database[*]

    content {
      sid       = "StopAndStartDatabase"
      actions   = ["rds:StartDBInstance", "rds:StopDBInstance"]
      resources = ["arn:${local.partition}:rds:${local.region}:${local.account_id}:db:${statement.value}"]
    }
  }

  dynamic "statement" {
    for_each = local.ecs[*]

    content {
      sid = "StopAndStartService"
      # Application autoscaling looks at the service with the rights of who registers it.
      actions = ["ecs:DescribeServices", "ecs:UpdateService"]
      resources = [
        "arn:${local.partition}:ecs:${local.region}:${local.account_id}:service/${statement.value.cluster}/${statement.value.service}",
      ]
    }
  }

  dynamic "statement" {
    for_each = try(local.ecs.scaled, false) ? [local.ecs] : []

    content {
      sid     = "SuspendScaling"
      actions = ["application-autoscaling:RegisterScalableTarget"]
      # A target's ARN ends in an id that AWS makes up.
      resources = ["arn:${local.partition}:application-autoscaling:${local.region}:${local.account_id}:scalable-target/*"]

      condition {
        test     = "StringEquals"
        variable = "application-autoscaling:service-namespace"
        values   = ["ecs"]
      }

      condition {
        test     = "StringEquals"
        variable = "application-autoscaling:scalable-dimension"
        values   = ["ecs:service:DesiredCount"]
      }
    }
  }

  dynamic "statement" {
    for_each = local.node_groups[*]

    content {
      sid     = "ResizeNodeGroups"
      actions = ["eks:UpdateNodegroupConfig"]
      resources = [
        for group in keys(statement.value.sizes) :
        "arn:${local.partition}:eks:${local.region}:${local.account_id}:nodegroup/${statement.value.cluster}/${group}/*"
      ]
    }
  }

  statement {
    sid       = "ReportFailures"
    actions   = ["sqs:SendMessage"]
    resources = [aws_sqs_queue.failed[0].arn]
  }

  # For the schedules, which EventBridge Scheduler decrypts with this role, and for the queue. The role cannot read
  # anything else that is encrypted with the key.
  statement {
    sid       = "ReadSchedules"
    actions   = ["kms:Decrypt"]
    resources = [var.kms_key_arn]
  }

  statement {
    sid       = "WriteToEncryptedQueue"
    actions   = ["kms:GenerateDataKey"]
    resources = [var.kms_key_arn]

    condition {
      test     = "StringEquals"
      variable = "kms:ViaService"
      values   = ["sqs.${local.region}.${data.aws_partition.current.dns_suffix}"]
    }
  }
}

resource "aws_iam_role_policy" "shutdown" {
  count = local.on ? 1 : 0

  name   = "shutdown"
  role   = aws_iam_role.shutdown[0].id
  policy = data.aws_iam_policy_document.shutdown[0].json
}
