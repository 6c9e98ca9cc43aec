# What the deployer names in AutoRollbackConfiguration: SageMaker demands that these exist, so they are there also while
# the endpoint is not. They look at single minutes, since a canary is watched for minutes; those that wake people look
# at longer times and are in the observability module.
locals {
  rollback_alarms = merge([
    for dataset, endpoint in var.endpoints : {
      "${dataset}/5xx" = {
        dataset = dataset
        metric  = "Invocation5XXErrors"
        # 1 for each failed request and 0 for each other one, so the average is the share.
        statistic = "Average"
        threshold = endpoint.alarms.server_error_share
        what      = "more than ${format("%.3g", 100 * endpoint.alarms.server_error_share)} % of requests end in a server error"
      }
      "${dataset}/4xx" = {
        dataset   = dataset
        metric    = "Invocation4XXErrors"
        statistic = "Average"
        threshold = endpoint.alarms.client_error_share
        what      = "more than ${format("%.3g", 100 * endpoint.alarms.client_error_share)} % of requests are refused, as when a new model wants other features"
      }
      "${dataset}/latency" = {
        dataset   = dataset
        metric    = "ModelLatency"
        statistic = "p99"
        threshold = 1000 * endpoint.alarms.latency_p99_ms # in microseconds
        what      = "one request in a hundred takes the model longer than ${endpoint.alarms.latency_p99_ms} ms"
      }
      "${dataset}/overhead" = {
        dataset   = dataset
        metric    = "OverheadLatency"
        statistic = "p99"
        threshold = 1000 * endpoint.alarms.overhead_p99_ms
        what      = "one request in a hundred takes SageMaker longer than ${endpoint.alarms.overhead_p99_ms} ms around the model"
      }
    }
  ]...)
}

resource "aws_cloudwatch_metric_alarm" "rollback" {
  for_each = local.rollback_alarms

  alarm_name = "${local.endpoint_names[each.value.dataset]}-rollback-${split("/", each.key)[1]}"
  alarm_description = join(" ", compact([
    "Endpoint ${local.endpoint_names[each.value.dataset]}: ${each.value.what}. A deployment under way is rolled back.",
    var.runbook_base_url == null ? null : "${var.runbook_base_url}/endpoint-rollback.md",
  ]))

  namespace   = "AWS/SageMaker"
  metric_name = each.value.metric
  dimensions = {
    EndpointName = local.endpoint_names[each.value.dataset]
    VariantName  = local.variant
  }

  statistic          = each.value.statistic == "Average" ? "Average" : null
  extended_statistic = each.value.statistic == "Average" ? null : each.value.statistic
  # A percentile of a few requests says nothing.
  evaluate_low_sample_count_percentiles = each.value.statistic == "Average" ? null : "ignore"

  period              = 60
  evaluation_periods  = 3
  datapoints_to_alarm = 2 # one bad minute in a quiet hour is no reason to roll back
  comparison_operator = "GreaterThanThreshold"
  threshold           = each.value.threshold
  # No requests are no errors; there is no data either while there is no endpoint.
  treat_missing_data = "notBreaching"

  alarm_actions = var.alarm_topic_arns
  ok_actions    = var.alarm_topic_arns
}
