mock_provider "aws" {
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }
  mock_data "aws_partition" {
    defaults = { partition = "aws", dns_suffix = "amazonaws.com" }
  }
  mock_data "aws_region" {
    defaults = { name = "eu-central-1" }
  }
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{\"Version\":\"2012-10-17\",\"Statement\":[]}" }
  }
  mock_resource "aws_sns_topic" {
    defaults = { arn = "arn:aws:sns:eu-central-1:123456789012:topic" }
  }
  mock_resource "aws_cloudwatch_metric_alarm" {
    defaults = { arn = "arn:aws:cloudwatch:eu-central-1:123456789012:alarm:alarm" }
  }
}

variables {
  name                           = "ml-platform-test"
  environment                    = "test"
  kms_key_arn                    = "arn:aws:kms:eu-central-1:123456789012:key/11111111-2222-3333-4444-555555555555"
  email_addresses                = ["ml-team@example.com", "on-call@example.com"]
  runbook_base_url               = "https://example.com/runbooks"
  airflow_environment_name       = "ml-platform-test"
  cluster_name                   = "ml-platform-test"
  landing_dead_letter_queue_name = "ml-platform-test-landing-dead-letters"
  endpoint_names                 = { flights = "ml-platform-test-flights" }
  mlflow = {
    load_balancer_arn_suffix = "app/ml-platform-test-mlflow/0123456789abcdef"
    target_group_arn_suffix  = "targetgroup/ml-platform-test-mlflow/0123456789abcdef"
    database_identifier      = "ml-platform-test-mlflow"
    cluster_name             = "ml-platform-test-mlflow"
    service_name             = "mlflow"
  }
}

run "defaults" {
  command = apply

  assert {
    condition = alltrue([
      for topic in aws_sns_topic.this : topic.kms_master_key_id == var.kms_key_arn
    ])
    error_message = "Topics are encrypted with the environment's key."
  }
  assert {
    condition     = aws_sns_topic.this["alarms"].name == "ml-platform-test-alarms" && aws_sns_topic.this["notifications"].name == "ml-platform-test-notifications"
    error_message = "There is one topic for alarms and one for the pipeline's messages."
  }
  assert {
    condition     = keys(aws_sns_topic_policy.this) == ["alarms", "notifications"]
    error_message = "Both topics have a policy."
  }
  assert {
    condition = keys(aws_sns_topic_subscription.email) == [
      "alarms/ml-team@example.com", "alarms/on-call@example.com",
      "notifications/ml-team@example.com", "notifications/on-call@example.com",
    ]
    error_message = "Each address is subscribed to both topics."
  }
  assert {
    condition = output.alarm_keys == tolist([
      "dag-failures", "dag-import-errors", "database-connections", "database-cpu", "database-storage", "endpoint-5xx",
      "endpoint-latency", "gpu-idle", "gpu-unallocated", "landing-dead-letters", "mlflow-5xx", "mlflow-down",
      "mlflow-unhealthy-hosts", "model-degraded", "model-drifted", "nodes-failed", "pod-failures", "pods-pending", "queued-tasks", "scheduler-heartbeat",
    ])
    error_message = "An alarm came or went: its runbook in docs/runbooks must come or go with it."
  }
  assert {
    condition = alltrue([
      for key, alarm in aws_cloudwatch_metric_alarm.this :
      endswith(alarm.alarm_description, " https://example.com/runbooks/${split("/", key)[0]}.md")
      && alarm.alarm_name == "ml-platform-test-${replace(key, "/", "-")}"
      && length(alarm.alarm_actions) == 1 && length(alarm.ok_actions) == 1
    ])
    error_message = "Each alarm is named after its key, links its runbook and tells people, also when it is over."
  }
  assert {
    condition = (
      one(aws_cloudwatch_metric_alarm.this["dag-failures"].metric_query).expression
      == "SELECT COUNT(DAGDurationFailed) FROM SCHEMA(\"AmazonMWAA\", DAG, Environment) WHERE Environment = 'ml-platform-test' GROUP BY DAG"
      && one(aws_cloudwatch_metric_alarm.this["dag-failures"].metric_query).period == 300
      && aws_cloudwatch_metric_alarm.this["dag-failures"].threshold == 1
    )
    error_message = "A failed run, of any DAG, is one sample of DAGDurationFailed."
  }
  assert {
    condition = alltrue([
      for key, metric in { "model-drifted/flights" = "Drifted", "model-degraded/flights" = "Degraded" } :
      aws_cloudwatch_metric_alarm.this[key].namespace == "MLPlatform/Monitoring"
      && aws_cloudwatch_metric_alarm.this[key].metric_name == metric
      && aws_cloudwatch_metric_alarm.this[key].dimensions == tomap({ Environment = "test", Dataset = "flights" })
    ])
    error_message = "What monitoring finds is an alarm, by the metrics that it puts."
  }
  assert {
    condition = alltrue([
      for key in ["model-drifted/flights", "model-degraded/flights"] :
      aws_cloudwatch_metric_alarm.this[key].period * aws_cloudwatch_metric_alarm.this[key].evaluation_periods == 86400
      && aws_cloudwatch_metric_alarm.this[key].datapoints_to_alarm == 1
      && aws_cloudwatch_metric_alarm.this[key].treat_missing_data == "notBreaching"
    ])
    error_message = "A finding of any hour of the last day counts, though it is put late, and silence is none."
  }
  assert {
    condition = length([
      for widget in jsondecode(aws_cloudwatch_dashboard.this.dashboard_body).widgets : widget
      if strcontains(jsonencode(widget), "{MLPlatform/Monitoring,Environment,Dataset,ModelVersion}")
    ]) == 1
    error_message = "Drift and quality of each version are on the dashboard."
  }
  assert {
    condition = (
      aws_cloudwatch_metric_alarm.this["scheduler-heartbeat"].treat_missing_data == "breaching"
      && aws_cloudwatch_metric_alarm.this["scheduler-heartbeat"].comparison_operator == "LessThanThreshold"
      && aws_cloudwatch_metric_alarm.this["scheduler-heartbeat"].dimensions == tomap({ Environment = "ml-platform-test", Function = "Scheduler" })
    )
    error_message = "Silence of the scheduler is the alarm."
  }
  assert {
    condition     = aws_cloudwatch_metric_alarm.this["queued-tasks"].evaluation_periods == 6
    error_message = "30 minutes are six periods of five."
  }
  assert {
    condition = (
      length(aws_cloudwatch_metric_alarm.this["mlflow-5xx"].metric_query) == 3
      && aws_cloudwatch_metric_alarm.this["mlflow-5xx"].metric_name == null
      && [for query in aws_cloudwatch_metric_alarm.this["mlflow-5xx"].metric_query : query.expression if query.return_data == true] == ["SUM(METRICS())"]
    )
    error_message = "Errors of the server and of the load balancer are one sum."
  }
  assert {
    condition = join(" ", flatten([
      for query in aws_cloudwatch_metric_alarm.this["mlflow-5xx"].metric_query : keys(one(query.metric).dimensions)
      if query.id == "balancer"
    ])) == "LoadBalancer"
    error_message = "The load balancer's own errors have no target group."
  }
  assert {
    condition     = aws_cloudwatch_metric_alarm.this["database-storage"].threshold == 5368709120
    error_message = "FreeStorageSpace is in bytes."
  }
  assert {
    condition = (
      aws_cloudwatch_metric_alarm.this["endpoint-latency/flights"].extended_statistic == "p99"
      && aws_cloudwatch_metric_alarm.this["endpoint-latency/flights"].threshold == 500000
      && aws_cloudwatch_metric_alarm.this["endpoint-latency/flights"].dimensions == tomap({ EndpointName = "ml-platform-test-flights", VariantName = "primary" })
    )
    error_message = "Latency is watched at its 99th percentile, in microseconds."
  }
  assert {
    condition     = aws_cloudwatch_metric_alarm.this["mlflow-down"].treat_missing_data == "breaching"
    error_message = "No targets are no data."
  }
  assert {
    condition     = aws_cloudwatch_metric_alarm.this["landing-dead-letters"].dimensions == tomap({ QueueName = "ml-platform-test-landing-dead-letters" })
    error_message = "The dead-letter queue is watched."
  }
  assert {
    condition     = output.dashboard_name == "ml-platform-test"
    error_message = "The dashboard has the platform's name."
  }
  assert {
    condition = alltrue([
      for widget in jsondecode(aws_cloudwatch_dashboard.this.dashboard_body).widgets :
      widget.x >= 0 && widget.x + widget.width <= 24 && widget.height > 0
    ])
    error_message = "A widget lies outside the dashboard's 24 columns."
  }
  assert {
    condition = length(distinct([
      for widget in jsondecode(aws_cloudwatch_dashboard.this.dashboard_body).widgets : "${widget.x}/${widget.y}"
    ])) == length(jsondecode(aws_cloudwatch_dashboard.this.dashboard_body).widgets)
    error_message = "Two widgets lie in the same place."
  }
  assert {
    condition = length([
      for widget in jsondecode(aws_cloudwatch_dashboard.this.dashboard_body).widgets : widget
      if widget.type == "alarm" && length(try(widget.properties.alarms, [])) == length(aws_cloudwatch_metric_alarm.this)
    ]) == 1
    error_message = "The dashboard shows every alarm."
  }
  assert {
    condition     = strcontains(aws_cloudwatch_dashboard.this.dashboard_body, "## Endpoint ml-platform-test-flights")
    error_message = "Each endpoint has its own row."
  }
}

run "stopped_at_night" {
  command = plan

  variables {
    mlflow = {
      load_balancer_arn_suffix = "app/ml-platform-test-mlflow/0123456789abcdef"
      target_group_arn_suffix  = "targetgroup/ml-platform-test-mlflow/0123456789abcdef"
      database_identifier      = "ml-platform-test-mlflow"
      always_on                = false
    }
  }

  assert {
    condition     = !contains(output.alarm_keys, "mlflow-down")
    error_message = "What is stopped at night raises no alarm."
  }
}

run "silent_endpoints" {
  command = plan

  variables {
    thresholds = { endpoint_silence_hours = 24 }
  }

  assert {
    condition = (
      aws_cloudwatch_metric_alarm.this["endpoint-invocations/flights"].evaluation_periods == 24
      && aws_cloudwatch_metric_alarm.this["endpoint-invocations/flights"].period == 3600
      && aws_cloudwatch_metric_alarm.this["endpoint-invocations/flights"].treat_missing_data == "breaching"
    )
    error_message = "A day without requests is 24 hours without data."
  }
}

run "not_monitored" {
  command = plan

  variables {
    environment = null
  }

  assert {
    condition     = length([for key in keys(aws_cloudwatch_metric_alarm.this) : key if startswith(key, "model-")]) == 0
    error_message = "Where nothing is known of monitoring's metrics, there is no alarm on them."
  }
}

run "no_endpoints_no_mail" {
  command = plan

  variables {
    email_addresses = []
    endpoint_names  = {}
  }

  assert {
    condition     = length([for key in keys(aws_cloudwatch_metric_alarm.this) : key if startswith(key, "endpoint-") || startswith(key, "model-")]) == 0
    error_message = "There are no alarms for endpoints that do not exist."
  }
  assert {
    condition     = length(aws_sns_topic_subscription.email) == 0
    error_message = "Nobody is subscribed."
  }
}

run "thresholds" {
  command = plan

  variables {
    thresholds = { queued_tasks_minutes = 10, database_free_gib = 20, gpu_idle_minutes = 30, gpu_idle_percent = 10 }
  }

  assert {
    condition = (
      aws_cloudwatch_metric_alarm.this["queued-tasks"].evaluation_periods == 2
      && aws_cloudwatch_metric_alarm.this["database-storage"].threshold == 21474836480
      && aws_cloudwatch_metric_alarm.this["gpu-idle"].evaluation_periods == 6
      && aws_cloudwatch_metric_alarm.this["gpu-idle"].threshold == 10
    )
    error_message = "Thresholds can be set."
  }
}
