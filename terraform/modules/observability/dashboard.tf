# One page, from the question people come with to the answer: is something wrong, what do the runs do, what do the
# machines do, is what is live all right. A row is a list of widgets of equal width.
locals {
  global_name = coalesce(var.global_name, var.name)
  dashboard_rows = concat(
    [
      { height = 4, widgets = [{
        type = "alarm"
        properties = {
          title  = "Alarms"
          alarms = [for alarm in aws_cloudwatch_metric_alarm.this : alarm.arn]
        }
      }] },
      { height = 1, widgets = [{ type = "text", properties = { markdown = "## Pipeline" } }] },
      { height = 6, widgets = [
        {
          type = "metric"
          properties = {
            title = "Runs that failed"
            stat  = "SampleCount"
            metrics = [[{
              expression = "SEARCH('{AmazonMWAA,DAG,Environment} MetricName=\"DAGDurationFailed\" Environment=\"${var.airflow_environment_name}\"', 'SampleCount', 300)"
            }]]
          }
        },
        {
          type = "metric"
          properties = {
            title = "Attempts of tasks"
            stat  = "Sum"
            metrics = [
              ["AmazonMWAA", "TaskInstanceSuccesses", "DAG", "All", "Environment", var.airflow_environment_name, "Task", "All", { label = "succeeded", color = "#2ca02c" }],
              ["AmazonMWAA", "TaskInstanceFailures", "DAG", "All", "Environment", var.airflow_environment_name, "Task", "All", { label = "failed", color = "#d62728" }],
            ]
          }
        },
        {
          type = "metric"
          properties = {
            title = "Tasks that wait and run"
            stat  = "Maximum"
            metrics = [
              ["AmazonMWAA", "QueuedTasks", "Environment", var.airflow_environment_name, "Function", "Executor", { label = "waiting for a worker" }],
              ["AmazonMWAA", "RunningTasks", "Environment", var.airflow_environment_name, "Function", "Executor", { label = "running" }],
            ]
          }
        },
        {
          type = "metric"
          properties = {
            title = "Scheduler"
            stat  = "Sum"
            metrics = [
              ["AmazonMWAA", "SchedulerHeartbeat", "Environment", var.airflow_environment_name, "Function", "Scheduler", { label = "heartbeats" }],
              ["AmazonMWAA", "ImportErrors", "Environment", var.airflow_environment_name, "Function", "DAG Processing", { label = "import errors", stat = "Maximum", yAxis = "right" }],
            ]
          }
        },
      ] },
      { height = 6, widgets = [
        {
          type = "metric"
          properties = {
            title = "How long successful runs take"
            stat  = "Average"
            metrics = [[{
              expression = "SEARCH('{AmazonMWAA,DAG,Environment} MetricName=\"DAGDurationSuccess\" Environment=\"${var.airflow_environment_name}\"', 'Average', 300)"
            }]]
          }
        },
        {
          type = "metric"
          properties = {
            title = "Airflow's own load"
            stat  = "Average"
            metrics = [
              for component in ["Scheduler", "BaseWorker", "AdditionalWorker", "WebServer"] :
              ["AWS/MWAA", "CPUUtilization", "Cluster", component, "Environment", var.airflow_environment_name, { label = component }]
            ]
            yAxis = { left = { min = 0, max = 100 } }
          }
        },
        {
          type = "metric"
          properties = {
            title   = "Landing: notices put aside"
            stat    = "Maximum"
            metrics = [["AWS/SQS", "ApproximateNumberOfMessagesVisible", "QueueName", var.landing_dead_letter_queue_name]]
          }
        },
      ] },
      { height = 1, widgets = [{ type = "text", properties = { markdown = "## Cluster" } }] },
      { height = 6, widgets = [
        {
          type = "metric"
          properties = {
            title = "Pods"
            stat  = "Sum"
            # Each is counted once a minute.
            period = 60
            metrics = [
              for phase, color in { running = "#2ca02c", pending = "#ff7f0e", failed = "#d62728" } :
              ["ContainerInsights", "pod_status_${phase}", "ClusterName", var.cluster_name, { label = phase, color = color }]
            ]
          }
        },
        {
          type = "metric"
          properties = {
            title = "Nodes"
            stat  = "Maximum"
            metrics = [
              ["ContainerInsights", "cluster_node_count", "ClusterName", var.cluster_name, { label = "all" }],
              ["ContainerInsights", "cluster_failed_node_count", "ClusterName", var.cluster_name, { label = "failed", color = "#d62728" }],
            ]
          }
        },
        {
          type = "metric"
          properties = {
            title = "Use of nodes"
            stat  = "Average"
            metrics = [
              ["ContainerInsights", "node_cpu_utilization", "ClusterName", var.cluster_name, { label = "processors" }],
              ["ContainerInsights", "node_memory_utilization", "ClusterName", var.cluster_name, { label = "memory" }],
            ]
            yAxis = { left = { min = 0, max = 100 } }
          }
        },
        {
          type = "metric"
          properties = {
            title = "GPUs"
            stat  = "Sum"
            # Each node is counted once a minute.
            period = 60
            metrics = [
              ["ContainerInsights", "node_gpu_limit", "ClusterName", var.cluster_name, { label = "there" }],
              ["ContainerInsights", "node_gpu_usage_total", "ClusterName", var.cluster_name, { label = "given to pods" }],
              ["ContainerInsights", "node_gpu_utilization", "ClusterName", var.cluster_name, { label = "use, %", stat = "Average", yAxis = "right" }],
            ]
          }
        },
      ] },
      { height = 1, widgets = [{ type = "text", properties = { markdown = "## MLflow" } }] },
      { height = 6, widgets = [
        {
          type = "metric"
          properties = {
            title = "Requests and errors"
            stat  = "Sum"
            metrics = [
              ["AWS/ApplicationELB", "RequestCount", "LoadBalancer", var.mlflow.load_balancer_arn_suffix, { label = "requests" }],
              ["AWS/ApplicationELB", "HTTPCode_Target_5XX_Count", "LoadBalancer", var.mlflow.load_balancer_arn_suffix, { label = "errors of the server", color = "#d62728" }],
              ["AWS/ApplicationELB", "HTTPCode_ELB_5XX_Count", "LoadBalancer", var.mlflow.load_balancer_arn_suffix, { label = "errors of the load balancer", color = "#9467bd" }],
            ]
          }
        },
        {
          type = "metric"
          properties = {
            title = "Time to answer, s"
            metrics = [
              for stat in ["p50", "p99"] :
              ["AWS/ApplicationELB", "TargetResponseTime", "LoadBalancer", var.mlflow.load_balancer_arn_suffix, { stat = stat, label = stat }]
            ]
          }
        },
        {
          type = "metric"
          properties = {
            title = "Servers"
            metrics = concat(
              [
                for metric, label in { HealthyHostCount = "healthy", UnHealthyHostCount = "unhealthy" } : [
                  "AWS/ApplicationELB", metric, "LoadBalancer", var.mlflow.load_balancer_arn_suffix,
                  "TargetGroup", var.mlflow.target_group_arn_suffix, { stat = "Maximum", label = label }
                ]
              ],
              [
                for metric in ["CPUUtilization", "MemoryUtilization"] : [
                  "AWS/ECS", metric, "ClusterName", coalesce(var.mlflow.cluster_name, "none"),
                  "ServiceName", coalesce(var.mlflow.service_name, "none"), { stat = "Average", label = metric, yAxis = "right" }
                ] if var.mlflow.cluster_name != null && var.mlflow.service_name != null
              ],
            )
          }
        },
        {
          type = "metric"
          properties = {
            title = "Database"
            metrics = [
              for metric, options in {
                CPUUtilization      = { label = "processors, %" }
                DatabaseConnections = { label = "connections" }
                FreeStorageSpace    = { label = "free bytes", yAxis = "right" }
              } :
              ["AWS/RDS", metric, "DBInstanceIdentifier", var.mlflow.database_identifier, merge({ stat = "Average" }, options)]
            ]
          }
        },
      ] },
    ],
    flatten([
      for dataset, endpoint in var.endpoint_names : [
        { height = 1, widgets = [{ type = "text", properties = { markdown = "## Endpoint ${endpoint}" } }] },
        { height = 6, widgets = [
          {
            type = "metric"
            properties = {
              title = "Requests and errors"
              stat  = "Sum"
              metrics = [
                for metric, options in {
                  Invocations         = { label = "requests" }
                  Invocation4XXErrors = { label = "refused", color = "#ff7f0e" }
                  Invocation5XXErrors = { label = "failed", color = "#d62728" }
                } :
                ["AWS/SageMaker", metric, "EndpointName", endpoint, "VariantName", "primary", options]
              ]
            }
          },
          {
            type = "metric"
            properties = {
              title = "Time to answer, µs"
              metrics = [
                ["AWS/SageMaker", "ModelLatency", "EndpointName", endpoint, "VariantName", "primary", { stat = "p50", label = "model, p50" }],
                ["AWS/SageMaker", "ModelLatency", "EndpointName", endpoint, "VariantName", "primary", { stat = "p99", label = "model, p99" }],
                ["AWS/SageMaker", "OverheadLatency", "EndpointName", endpoint, "VariantName", "primary", { stat = "p99", label = "overhead, p99" }],
              ]
            }
          },
          {
            type = "metric"
            properties = {
              title = "Instances"
              metrics = [
                ["/aws/sagemaker/Endpoints", "CPUUtilization", "EndpointName", endpoint, "VariantName", "primary", { stat = "Average", label = "processors, %" }],
                ["/aws/sagemaker/Endpoints", "MemoryUtilization", "EndpointName", endpoint, "VariantName", "primary", { stat = "Average", label = "memory, %" }],
                ["AWS/SageMaker", "InvocationsPerInstance", "EndpointName", endpoint, "VariantName", "primary", { stat = "Sum", label = "requests per instance", yAxis = "right" }],
              ]
            }
          },
          {
            type = "metric"
            properties = {
              title  = "Drift and quality of each version"
              stat   = "Maximum"
              period = 3600
              # Versions come and go, so they are searched for.
              metrics = var.environment == null ? [] : [
                for metric, options in {
                  MaximumFeaturePSI = { label = "features, PSI" }
                  PredictionPSI     = { label = "prediction, PSI" }
                  Quality           = { label = "quality", yAxis = "right" }
                  } : [merge(options, {
                    id         = lower(metric)
                    expression = "SEARCH('{${local.monitoring},Environment,Dataset,ModelVersion} MetricName=\"${metric}\" Environment=\"${var.environment}\" Dataset=\"${dataset}\"', 'Maximum', 3600)"
                })]
              ]
            }
          },
        ] },
      ]
    ]),
  )

  metric_defaults = { view = "timeSeries", region = local.region, period = 300 }

  dashboard_widgets = flatten([
    for index, row in local.dashboard_rows : [
      for column, widget in row.widgets : merge(widget, {
        x      = column * floor(24 / length(row.widgets))
        y      = sum(concat([0], [for above in slice(local.dashboard_rows, 0, index) : above.height]))
        width  = floor(24 / length(row.widgets))
        height = row.height
        properties = merge(
          { for key, value in local.metric_defaults : key => value if widget.type == "metric" }, widget.properties
        )
      })
    ]
  ])
}

resource "aws_cloudwatch_dashboard" "this" {
  dashboard_name = local.global_name
  dashboard_body = jsonencode({ start = "-PT24H", periodOverride = "inherit", widgets = local.dashboard_widgets })
}
