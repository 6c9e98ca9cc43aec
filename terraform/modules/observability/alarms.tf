# Every alarm of the platform that people hear of. The part of a key before the slash is the name of its runbook,
# docs/runbooks/<key>.md; what follows tells alarms of the same kind apart.
#
# `metrics` is one metric, or several and an `expression` over their ids; none where the expression is a query. All of
# them share the alarm's dimensions unless they say otherwise.
locals {
  airflow  = { Environment = var.airflow_environment_name }
  cluster  = { ClusterName = var.cluster_name }
  balancer = { LoadBalancer = var.mlflow.load_balancer_arn_suffix }
  targets  = merge(local.balancer, { TargetGroup = var.mlflow.target_group_arn_suffix })
  database = { DBInstanceIdentifier = var.mlflow.database_identifier }

  # Must be the monitor's (NAMESPACE in containers/trainer/src/trainer/monitoring/telemetry.py).
  monitoring = "MLPlatform/Monitoring"

  airflow_alarms = {
    "dag-failures" = {
      what = "A run of a DAG failed."
      # DAGDurationFailed is sent once for each failed run, so the number of samples is the number of failed runs.
      # TaskInstanceFailures counts each attempt, and one that is tried again, such as after a spot node was taken
      # back, is no failure. The query finds the DAGs of all datasets, also of those that come later; each raises the
      # alarm by itself.
      metrics    = {}
      expression = "SELECT COUNT(DAGDurationFailed) FROM SCHEMA(\"AmazonMWAA\", DAG, Environment) WHERE Environment = '${var.airflow_environment_name}' GROUP BY DAG"
      period     = 300
      threshold  = 1
    }
    "dag-import-errors" = {
      what       = "A file of the DAG bundle cannot be loaded."
      namespace  = "AmazonMWAA"
      metrics    = { m = { name = "ImportErrors", statistic = "Maximum" } }
      dimensions = merge(local.airflow, { Function = "DAG Processing" })
      threshold  = 1
      periods    = 3 # an upload in progress is half a bundle for a moment
    }
    "scheduler-heartbeat" = {
      what       = "The Airflow scheduler gives no sign of life: nothing is started."
      namespace  = "AmazonMWAA"
      metrics    = { m = { name = "SchedulerHeartbeat", statistic = "Sum" } }
      dimensions = merge(local.airflow, { Function = "Scheduler" })
      comparison = "LessThanThreshold"
      threshold  = 1
      periods    = 2
      missing    = "breaching" # a dead scheduler sends nothing
    }
    "queued-tasks" = {
      what       = "For ${var.thresholds.queued_tasks_minutes} minutes some Airflow task has been waiting for a worker."
      namespace  = "AmazonMWAA"
      metrics    = { m = { name = "QueuedTasks", statistic = "Minimum" } }
      dimensions = merge(local.airflow, { Function = "Executor" })
      threshold  = 1
      periods    = var.thresholds.queued_tasks_minutes / 5
    }
  }

  cluster_alarms = {
    "pod-failures" = {
      what       = "Within 15 minutes, pods were seen as failed ${var.thresholds.failed_pods} times or more."
      namespace  = "ContainerInsights"
      metrics    = { m = { name = "pod_status_failed", statistic = "Sum" } }
      dimensions = local.cluster
      threshold  = var.thresholds.failed_pods
      period     = 900
    }
    "pods-pending" = {
      what       = "For ${var.thresholds.pending_pods_minutes} minutes some pod has found no node."
      namespace  = "ContainerInsights"
      metrics    = { m = { name = "pod_status_pending", statistic = "Maximum" } }
      dimensions = local.cluster
      threshold  = 1
      periods    = var.thresholds.pending_pods_minutes / 5
    }
    "nodes-failed" = {
      what       = "A node of the cluster is not ready."
      namespace  = "ContainerInsights"
      metrics    = { m = { name = "cluster_failed_node_count", statistic = "Maximum" } }
      dimensions = local.cluster
      threshold  = 1
      periods    = 3
    }
    "gpu-idle" = {
      what       = "For ${var.thresholds.gpu_idle_minutes} minutes GPUs have been there and none has computed."
      namespace  = "ContainerInsights"
      metrics    = { m = { name = "node_gpu_utilization", statistic = "Maximum" } } # sent by GPU nodes only
      dimensions = local.cluster
      comparison = "LessThanThreshold"
      threshold  = var.thresholds.gpu_idle_percent
      periods    = var.thresholds.gpu_idle_minutes / 5
    }
    "gpu-unallocated" = {
      what      = "For ${var.thresholds.gpu_idle_minutes} minutes GPU nodes have been running without a pod that asks for a GPU."
      namespace = "ContainerInsights"
      metrics = {
        gpus  = { name = "node_gpu_limit", statistic = "Maximum" }
        given = { name = "node_gpu_usage_total", statistic = "Maximum" }
      }
      expression = "IF(gpus > 0, given, 1)"
      dimensions = local.cluster
      comparison = "LessThanThreshold"
      threshold  = 1
      periods    = var.thresholds.gpu_idle_minutes / 5
    }
  }

  mlflow_alarms = merge(
    {
      "mlflow-5xx" = {
        what      = "MLflow, or its load balancer, answered ${var.thresholds.mlflow_server_errors} requests or more with a server error."
        namespace = "AWS/ApplicationELB"
        metrics = {
          server   = { name = "HTTPCode_Target_5XX_Count", statistic = "Sum", dimensions = local.targets }
          balancer = { name = "HTTPCode_ELB_5XX_Count", statistic = "Sum", dimensions = local.balancer }
        }
        # The load balancer's own errors are those of a server that is not there. Not FILL(server, 0) + …: a metric that
        # was never sent makes such a sum empty.
        expression = "SUM(METRICS())"
        dimensions = local.targets
        threshold  = var.thresholds.mlflow_server_errors
      }
      "mlflow-unhealthy-hosts" = {
        what       = "An MLflow server does not pass its health check."
        namespace  = "AWS/ApplicationELB"
        metrics    = { m = { name = "UnHealthyHostCount", statistic = "Minimum" } }
        dimensions = local.targets
        threshold  = 1
        periods    = 2 # one that starts is unhealthy for a while
      }
      "database-storage" = {
        what       = "The MLflow database has less than ${var.thresholds.database_free_gib} GiB left."
        namespace  = "AWS/RDS"
        metrics    = { m = { name = "FreeStorageSpace", statistic = "Minimum" } }
        dimensions = local.database
        comparison = "LessThanThreshold"
        threshold  = var.thresholds.database_free_gib * pow(2, 30)
        periods    = 3
      }
      "database-cpu" = {
        what       = "The MLflow database uses more than ${var.thresholds.database_cpu_percent} % of its processors."
        namespace  = "AWS/RDS"
        metrics    = { m = { name = "CPUUtilization", statistic = "Average" } }
        dimensions = local.database
        threshold  = var.thresholds.database_cpu_percent
        periods    = 3
      }
      "database-connections" = {
        what       = "The MLflow database has ${var.thresholds.database_connections} connections or more."
        namespace  = "AWS/RDS"
        metrics    = { m = { name = "DatabaseConnections", statistic = "Maximum" } }
        dimensions = local.database
        threshold  = var.thresholds.database_connections
        periods    = 3
      }
    },
    { for key, alarm in {
      "mlflow-down" = {
        what       = "No MLflow server is healthy: nothing can be tracked, registered or deployed."
        namespace  = "AWS/ApplicationELB"
        metrics    = { m = { name = "HealthyHostCount", statistic = "Maximum" } }
        dimensions = local.targets
        comparison = "LessThanThreshold"
        threshold  = 1
        periods    = 2
        missing    = "breaching" # no targets, no data
      }
    } : key => alarm if var.mlflow.always_on },
  )

  endpoint_alarms = merge([
    for dataset, endpoint in var.endpoint_names : merge(
      {
        "endpoint-5xx/${dataset}" = {
          what       = "Endpoint ${endpoint} answered ${var.thresholds.endpoint_server_errors} requests or more with a server error."
          namespace  = "AWS/SageMaker"
          metrics    = { m = { name = "Invocation5XXErrors", statistic = "Sum" } }
          dimensions = { EndpointName = endpoint, VariantName = "primary" }
          threshold  = var.thresholds.endpoint_server_errors
          periods    = 2
        }
        "endpoint-latency/${dataset}" = {
          what       = "One request in a hundred to endpoint ${endpoint} takes the model longer than ${var.thresholds.endpoint_latency_p99_ms} ms."
          namespace  = "AWS/SageMaker"
          metrics    = { m = { name = "ModelLatency", statistic = "p99" } }
          dimensions = { EndpointName = endpoint, VariantName = "primary" }
          threshold  = 1000 * var.thresholds.endpoint_latency_p99_ms # in microseconds
          periods    = 3
        }
      },
      { for key, alarm in {
        "endpoint-invocations/${dataset}" = {
          what       = "Nobody has asked endpoint ${endpoint} for ${coalesce(var.thresholds.endpoint_silence_hours, 0)} hours."
          namespace  = "AWS/SageMaker"
          metrics    = { m = { name = "Invocations", statistic = "Sum" } }
          dimensions = { EndpointName = endpoint, VariantName = "primary" }
          comparison = "LessThanThreshold"
          threshold  = 1
          period     = 3600
          periods    = var.thresholds.endpoint_silence_hours
          missing    = "breaching" # no requests, no data
        }
      } : key => alarm if var.thresholds.endpoint_silence_hours != null },
    )
  ]...)

  # What monitoring found, put at the end of the window it looked at, which is over by then: so any hour of the last
  # day counts, and an alarm is over when for a day nothing was found.
  model_alarms = merge([
    for dataset, endpoint in var.environment == null ? {} : var.endpoint_names : {
      "model-drifted/${dataset}" = {
        what       = "What endpoint ${endpoint} is asked or answers has drifted from what its model was trained on."
        namespace  = local.monitoring
        metrics    = { m = { name = "Drifted", statistic = "Maximum" } }
        dimensions = { Environment = var.environment, Dataset = dataset }
        threshold  = 1
        period     = 3600
        periods    = 24
        datapoints = 1
      }
      "model-degraded/${dataset}" = {
        what       = "By the labels that have landed, the model on endpoint ${endpoint} has got worse than it was when it was evaluated."
        namespace  = local.monitoring
        metrics    = { m = { name = "Degraded", statistic = "Maximum" } }
        dimensions = { Environment = var.environment, Dataset = dataset }
        threshold  = 1
        period     = 3600
        periods    = 24
        datapoints = 1
      }
    }
  ]...)

  landing_alarms = {
    "landing-dead-letters" = {
      what       = "Notices of landed files could not be taken in and were put aside."
      namespace  = "AWS/SQS"
      metrics    = { m = { name = "ApproximateNumberOfMessagesVisible", statistic = "Maximum" } }
      dimensions = { QueueName = var.landing_dead_letter_queue_name }
      threshold  = 1
    }
  }

  percentile = { for key, alarm in local.alarms : key => can(regex("^p[0-9]", alarm.metrics.m.statistic)) }

  alarms = merge(
    local.airflow_alarms, local.cluster_alarms, local.mlflow_alarms, local.endpoint_alarms, local.model_alarms,
    local.landing_alarms
  )
}

resource "aws_cloudwatch_metric_alarm" "this" {
  for_each = local.alarms

  alarm_name        = "${var.name}-${replace(each.key, "/", "-")}"
  alarm_description = "${each.value.what} ${var.runbook_base_url}/${split("/", each.key)[0]}.md"

  comparison_operator = try(each.value.comparison, "GreaterThanOrEqualToThreshold")
  threshold           = each.value.threshold
  evaluation_periods  = try(each.value.periods, 1)
  datapoints_to_alarm = try(each.value.datapoints, null)
  # Most metrics are sent only while there is something to count.
  treat_missing_data = try(each.value.missing, "notBreaching")

  namespace          = can(each.value.expression) ? null : each.value.namespace
  metric_name        = can(each.value.expression) ? null : each.value.metrics.m.name
  dimensions         = can(each.value.expression) ? null : each.value.dimensions
  period             = can(each.value.expression) ? null : try(each.value.period, 300)
  statistic          = can(each.value.expression) ? null : (local.percentile[each.key] ? null : each.value.metrics.m.statistic)
  extended_statistic = can(each.value.expression) ? null : (local.percentile[each.key] ? each.value.metrics.m.statistic : null)
  # A percentile of a few requests says nothing.
  evaluate_low_sample_count_percentiles = local.percentile[each.key] ? "ignore" : null

  dynamic "metric_query" {
    for_each = can(each.value.expression) ? each.value.metrics : {}

    content {
      id = metric_query.key

      metric {
        namespace   = each.value.namespace
        metric_name = metric_query.value.name
        dimensions  = try(metric_query.value.dimensions, each.value.dimensions)
        stat        = metric_query.value.statistic
        period      = 300
      }
    }
  }

  dynamic "metric_query" {
    for_each = can(each.value.expression) ? [each.value.expression] : []

    content {
      id          = "result"
      label       = each.key
      expression  = metric_query.value
      period      = try(each.value.period, null) # of a query; others have those of their metrics
      return_data = true
    }
  }

  alarm_actions = [aws_sns_topic.this["alarms"].arn]
  ok_actions    = [aws_sns_topic.this["alarms"].arn]

  # An action on a topic that does not let CloudWatch publish is lost.
  depends_on = [aws_sns_topic_policy.this]
}
