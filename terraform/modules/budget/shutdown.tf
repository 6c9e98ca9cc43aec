# Each step is one call of an AWS API by EventBridge Scheduler, without code in between. A target is
# arn:aws:scheduler:::aws-sdk:<service>:<operation>, and the names in its input begin with a capital, whatever the
# service's own API says.
locals {
  ecs         = try(var.shutdown.ecs, null)
  database    = try(var.shutdown.database_identifier, null)
  node_groups = try(var.shutdown.node_groups, null)

  stop_at  = try(var.shutdown.stop_schedule, null)
  start_at = try(var.shutdown.start_schedule, null)

  # A quarter of an hour later: a database takes some minutes to start, and is stopped when nobody uses it any more.
  later = {
    for key, schedule in { stop = local.stop_at, start = local.start_at } : key => try(format(
      "cron(%d %d %s)",
      (tonumber(regex("^cron\\((\\d+) (\\d+) (.*)\\)$", schedule)[0]) + 15) % 60,
      tonumber(regex("^cron\\((\\d+) (\\d+) (.*)\\)$", schedule)[1])
      + floor((tonumber(regex("^cron\\((\\d+) (\\d+) (.*)\\)$", schedule)[0]) + 15) / 60),
      regex("^cron\\((\\d+) (\\d+) (.*)\\)$", schedule)[2],
    ), null)
  }

  service_target = local.ecs == null ? null : {
    ServiceNamespace  = "ecs"
    ScalableDimension = "ecs:service:DesiredCount"
    ResourceId        = "service/${local.ecs.cluster}/${local.ecs.service}"
  }

  steps = merge(
    # A minimum above 0 would bring the service back, and so might a scaling policy.
    { for key, step in {
      "stop-scaling" = {
        at        = local.stop_at
        operation = "applicationautoscaling:registerScalableTarget"
        input = merge(local.service_target, {
          MinCapacity = 0
          SuspendedState = {
            DynamicScalingInSuspended = true, DynamicScalingOutSuspended = true, ScheduledScalingSuspended = true
          }
        })
      }
      "start-scaling" = {
        at        = local.later.start
        operation = "applicationautoscaling:registerScalableTarget"
        input = merge(local.service_target, {
          MinCapacity = try(local.ecs.count, null)
          SuspendedState = {
            DynamicScalingInSuspended = false, DynamicScalingOutSuspended = false, ScheduledScalingSuspended = false
          }
        })
      }
    } : key => step if try(local.ecs.scaled, false) },

    { for key, step in {
      "stop-service" = {
        at        = local.stop_at
        operation = "ecs:updateService"
        input     = { Cluster = try(local.ecs.cluster, null), Service = try(local.ecs.service, null), DesiredCount = 0 }
      }
      "start-service" = {
        at        = local.later.start
        operation = "ecs:updateService"
        input = {
          Cluster = try(local.ecs.cluster, null), Service = try(local.ecs.service, null), DesiredCount = try(local.ecs.count, null)
        }
      }
    } : key => step if local.ecs != null },

    { for key, step in {
      "stop-database" = {
        at        = local.later.stop
        operation = "rds:stopDBInstance"
        input     = { DbInstanceIdentifier = local.database }
      }
      "start-database" = {
        at        = local.start_at
        operation = "rds:startDBInstance"
        input     = { DbInstanceIdentifier = local.database }
      }
    } : key => step if local.database != null },

    {
      for group, size in try(local.node_groups.sizes, {}) : "stop-nodes-${trimprefix(group, "${var.name}-")}" => {
        at        = local.stop_at
        operation = "eks:updateNodegroupConfig"
        input = {
          ClusterName   = local.node_groups.cluster
          NodegroupName = group
          ScalingConfig = { MinSize = 0, MaxSize = size.max_size, DesiredSize = 0 }
        }
      }
    },
    {
      for group, size in try(local.node_groups.sizes, {}) : "start-nodes-${trimprefix(group, "${var.name}-")}" => {
        at        = local.start_at
        operation = "eks:updateNodegroupConfig"
        input = {
          ClusterName   = local.node_groups.cluster
          NodegroupName = group
          ScalingConfig = {
            MinSize = size.min_size, MaxSize = size.max_size, DesiredSize = coalesce(size.desired_size, size.min_size)
          }
        }
      }
    },
  )

  schedules = { for key, step in local.steps : key => step if step.at != null }
  # The service takes 64 characters; node groups whose names begin alike keep schedules of their own.
  schedule_names = {
    for key in keys(local.schedules) : key => length("${var.name}-${key}") <= 64 ? "${var.name}-${key}" : join("-", [
      replace(substr("${var.name}-${key}", 0, 55), "/-+$/", ""), substr(sha256("${var.name}-${key}"), 0, 8),
    ])
  }
  on = var.shutdown != null
}

resource "aws_scheduler_schedule_group" "shutdown" {
  count = local.on ? 1 : 0

  name = "${var.name}-shutdown"
}

resource "aws_scheduler_schedule" "shutdown" {
  for_each = local.schedules

  name        = local.schedule_names[each.key]
  group_name  = aws_scheduler_schedule_group.shutdown[0].name
  description = "Nightly shutdown of ${var.name}: ${replace(each.key, "-", " ")}"
  kms_key_arn = var.kms_key_arn

  schedule_expression          = each.value.at
  schedule_expression_timezone = var.shutdown.timezone

  # The order of the steps is in their times.
  flexible_time_window {
    mode = "OFF"
  }

  target {
    arn      = "arn:${local.partition}:scheduler:::aws-sdk:${each.value.operation}"
    role_arn = aws_iam_role.shutdown[0].arn
    input    = jsonencode(each.value.input)

    retry_policy {
      maximum_retry_attempts       = 5
      maximum_event_age_in_seconds = 3600
    }

    dead_letter_config {
      arn = aws_sqs_queue.failed[0].arn
    }
  }

  depends_on = [aws_iam_role_policy.shutdown]
}

# A call that failed for good ends here, with the reason in the message's attributes; otherwise nobody would know.
resource "aws_sqs_queue" "failed" {
  count = local.on ? 1 : 0

  name                      = "${var.name}-shutdown-failed"
  kms_master_key_id         = var.kms_key_arn
  message_retention_seconds = 14 * 24 * 3600
}

data "aws_iam_policy_document" "failed" {
  count = local.on ? 1 : 0

  statement {
    sid       = "TlsOnly"
    effect    = "Deny"
    actions   = ["sqs:*"]
    resources = [aws_sqs_queue.failed[0].arn]

    principals {
      type        = "*"
      identifiers = ["*"]
    }

    condition {
      test     = "Bool"
      variable = "aws:SecureTransport"
      values   = ["false"]
    }
  }
}

resource "aws_sqs_queue_policy" "failed" {
  count = local.on ? 1 : 0

  queue_url = aws_sqs_queue.failed[0].url
  policy    = data.aws_iam_policy_document.failed[0].json
}

resource "aws_cloudwatch_metric_alarm" "failed" {
  count = local.on ? 1 : 0

  alarm_name = "${var.name}-nightly-shutdown"
  alarm_description = join(" ", compact([
    "A step of the nightly shutdown of ${var.name}, or of the start in the morning, failed.",
    var.runbook_base_url == null ? null : "${var.runbook_base_url}/nightly-shutdown.md",
  ]))

  namespace           = "AWS/SQS"
  metric_name         = "ApproximateNumberOfMessagesVisible"
  dimensions          = { QueueName = aws_sqs_queue.failed[0].name }
  statistic           = "Maximum"
  period              = 300
  evaluation_periods  = 1
  comparison_operator = "GreaterThanOrEqualToThreshold"
  threshold           = 1
  treat_missing_data  = "notBreaching"

  alarm_actions = compact([var.alarms_topic_arn])
  ok_actions    = compact([var.alarms_topic_arn])
}
