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
  mock_resource "aws_iam_role" {
    defaults = { arn = "arn:aws:iam::123456789012:role/ml-platform-test-shutdown" }
  }
  mock_resource "aws_sqs_queue" {
    defaults = { arn = "arn:aws:sqs:eu-central-1:123456789012:ml-platform-test-shutdown-failed" }
  }
}

variables {
  name              = "ml-platform-test"
  environment       = "test"
  kms_key_arn       = "arn:aws:kms:eu-central-1:123456789012:key/11111111-2222-3333-4444-555555555555"
  monthly_limit_usd = 1000
  email_addresses   = ["ml-team@example.com"]
}

run "defaults" {
  command = plan

  assert {
    condition     = aws_budgets_budget.this.name == "ml-platform-test-monthly" && aws_budgets_budget.this.limit_amount == "1000.00"
    error_message = "The budget is monthly and has the limit."
  }
  assert {
    condition     = { for filter in aws_budgets_budget.this.cost_filter : filter.name => filter.values } == { TagKeyValue = tolist(["user:Project$ml-platform", "user:Environment$test"]), Region = tolist([data.aws_region.current.name]) }
    error_message = "Only what has the tags of this environment counts."
  }
  assert {
    condition = sort([for alert in aws_budgets_budget.this.notification : "${alert.notification_type} ${alert.threshold}"]) == tolist([
      "ACTUAL 100", "ACTUAL 50", "ACTUAL 80", "FORECASTED 100",
    ])
    error_message = "People hear of half, four fifths and all of the limit, and of a month that is going to exceed it."
  }
  assert {
    condition     = alltrue([for alert in aws_budgets_budget.this.notification : alert.subscriber_email_addresses == toset(["ml-team@example.com"])])
    error_message = "Alerts go to the addresses."
  }
  assert {
    condition     = alltrue([for alert in aws_budgets_budget.this.notification : length(alert.subscriber_sns_topic_arns) == 0])
    error_message = "Without a topic there is none."
  }
  assert {
    condition     = length(aws_ce_cost_allocation_tag.this) == 0
    error_message = "A setting of the organisation is left alone."
  }
  assert {
    condition = (
      length(aws_scheduler_schedule.shutdown) == 0 && length(aws_iam_role.shutdown) == 0 && length(aws_sqs_queue.failed) == 0
      && length(aws_cloudwatch_metric_alarm.failed) == 0 && length(output.schedule_names) == 0
    )
    error_message = "Nothing is shut down unless asked for."
  }
}

run "topic_percentages_and_tags" {
  command = plan

  variables {
    alarms_topic_arn              = "arn:aws:sns:eu-central-1:123456789012:ml-platform-test-alarms"
    alert_percentages             = { actual = [90], forecast = [] }
    activate_cost_allocation_tags = true
    email_addresses               = []
  }

  assert {
    condition     = one(aws_budgets_budget.this.notification).subscriber_sns_topic_arns == toset(["arn:aws:sns:eu-central-1:123456789012:ml-platform-test-alarms"])
    error_message = "Alerts go to the topic."
  }
  assert {
    condition     = keys(aws_ce_cost_allocation_tag.this) == ["CostCenter", "Environment", "Project", "dataset", "owner"]
    error_message = "The tags of all resources are activated, and those of a dataset's."
  }
}

run "shutdown" {
  command = apply

  variables {
    alarms_topic_arn = "arn:aws:sns:eu-central-1:123456789012:ml-platform-test-alarms"
    runbook_base_url = "https://example.com/runbooks"
    shutdown = {
      stop_schedule       = "cron(50 20 ? * * *)"
      start_schedule      = "cron(0 7 ? * MON-FRI *)"
      timezone            = "Europe/Berlin"
      database_identifier = "ml-platform-test-mlflow"
      ecs                 = { cluster = "ml-platform-test-mlflow", service = "mlflow", count = 2 }
      node_groups = {
        cluster = "ml-platform-test"
        sizes   = { system = { min_size = 1, max_size = 3, desired_size = 2 }, ml-platform-test-gpu = { min_size = 0, max_size = 4 } }
      }
    }
  }

  assert {
    condition = output.schedule_names == tolist([
      "ml-platform-test-start-database", "ml-platform-test-start-nodes-gpu", "ml-platform-test-start-nodes-system",
      "ml-platform-test-start-scaling", "ml-platform-test-start-service", "ml-platform-test-stop-database",
      "ml-platform-test-stop-nodes-gpu", "ml-platform-test-stop-nodes-system", "ml-platform-test-stop-scaling",
      "ml-platform-test-stop-service",
    ])
    error_message = "What is stopped is started again."
  }
  assert {
    condition = alltrue([
      for schedule in aws_scheduler_schedule.shutdown :
      schedule.kms_key_arn == var.kms_key_arn && schedule.schedule_expression_timezone == "Europe/Berlin"
      && schedule.group_name == "ml-platform-test-shutdown" && one(schedule.flexible_time_window).mode == "OFF"
      && one(one(schedule.target).dead_letter_config).arn == aws_sqs_queue.failed[0].arn
    ])
    error_message = "Schedules are encrypted, exact, in the group that the role trusts, and report failures."
  }
  assert {
    condition = (
      aws_scheduler_schedule.shutdown["stop-service"].schedule_expression == "cron(50 20 ? * * *)"
      && aws_scheduler_schedule.shutdown["stop-database"].schedule_expression == "cron(5 21 ? * * *)"
    )
    error_message = "The database is stopped a quarter of an hour after the service that uses it."
  }
  assert {
    condition = (
      aws_scheduler_schedule.shutdown["start-database"].schedule_expression == "cron(0 7 ? * MON-FRI *)"
      && aws_scheduler_schedule.shutdown["start-service"].schedule_expression == "cron(15 7 ? * MON-FRI *)"
      && aws_scheduler_schedule.shutdown["start-scaling"].schedule_expression == "cron(15 7 ? * MON-FRI *)"
    )
    error_message = "The service is started a quarter of an hour after the database it needs."
  }
  assert {
    condition = (
      one(aws_scheduler_schedule.shutdown["stop-database"].target).arn == "arn:aws:scheduler:::aws-sdk:rds:stopDBInstance"
      && jsondecode(one(aws_scheduler_schedule.shutdown["stop-database"].target).input) == { DbInstanceIdentifier = "ml-platform-test-mlflow" }
    )
    error_message = "The database's name is called as EventBridge Scheduler wants it."
  }
  assert {
    condition = jsondecode(one(aws_scheduler_schedule.shutdown["stop-service"].target).input) == {
      Cluster = "ml-platform-test-mlflow", Service = "mlflow", DesiredCount = 0
    }
    error_message = "The service goes to no tasks."
  }
  assert {
    condition     = jsondecode(one(aws_scheduler_schedule.shutdown["start-service"].target).input).DesiredCount == 2
    error_message = "The service comes back with its tasks."
  }
  assert {
    condition = jsondecode(one(aws_scheduler_schedule.shutdown["stop-scaling"].target).input) == {
      ServiceNamespace = "ecs", ScalableDimension = "ecs:service:DesiredCount", ResourceId = "service/ml-platform-test-mlflow/mlflow", MinCapacity = 0
      SuspendedState   = { DynamicScalingInSuspended = true, DynamicScalingOutSuspended = true, ScheduledScalingSuspended = true }
    }
    error_message = "Scaling must not bring the service back at night."
  }
  assert {
    condition = (
      jsondecode(one(aws_scheduler_schedule.shutdown["start-scaling"].target).input).MinCapacity == 2
      && !jsondecode(one(aws_scheduler_schedule.shutdown["start-scaling"].target).input).SuspendedState.DynamicScalingOutSuspended
    )
    error_message = "Scaling goes on in the morning."
  }
  assert {
    condition = (
      one(aws_scheduler_schedule.shutdown["stop-nodes-system"].target).arn == "arn:aws:scheduler:::aws-sdk:eks:updateNodegroupConfig"
      && jsondecode(one(aws_scheduler_schedule.shutdown["stop-nodes-system"].target).input) == {
        ClusterName = "ml-platform-test", NodegroupName = "system", ScalingConfig = { MinSize = 0, MaxSize = 3, DesiredSize = 0 }
      }
    )
    error_message = "Nodes go at night."
  }
  assert {
    condition = (
      jsondecode(one(aws_scheduler_schedule.shutdown["start-nodes-system"].target).input).ScalingConfig == { MinSize = 1, MaxSize = 3, DesiredSize = 2 }
      && jsondecode(one(aws_scheduler_schedule.shutdown["start-nodes-gpu"].target).input) == {
        ClusterName = "ml-platform-test", NodegroupName = "ml-platform-test-gpu", ScalingConfig = { MinSize = 0, MaxSize = 4, DesiredSize = 0 }
      }
    )
    error_message = "Nodes come back in the morning, GPU nodes when they are needed."
  }
  assert {
    condition = (
      aws_cloudwatch_metric_alarm.failed[0].alarm_name == "ml-platform-test-nightly-shutdown"
      && endswith(aws_cloudwatch_metric_alarm.failed[0].alarm_description, " https://example.com/runbooks/nightly-shutdown.md")
      && aws_cloudwatch_metric_alarm.failed[0].alarm_actions == toset([var.alarms_topic_arn])
    )
    error_message = "A failed step raises an alarm."
  }
  assert {
    condition     = aws_sqs_queue.failed[0].kms_master_key_id == var.kms_key_arn
    error_message = "The queue is encrypted."
  }
}

run "down_until_somebody_starts_it" {
  command   = plan
  state_key = "down"

  variables {
    shutdown = { stop_schedule = "cron(0 20 ? * * *)", database_identifier = "ml-platform-test-mlflow" }
  }

  assert {
    condition     = keys(aws_scheduler_schedule.shutdown) == ["stop-database"]
    error_message = "Only the database is stopped, and nothing is started."
  }
  assert {
    condition     = aws_scheduler_schedule.shutdown["stop-database"].schedule_expression_timezone == "UTC"
    error_message = "Times are in UTC unless said otherwise."
  }
}

run "service_without_scaling" {
  command   = plan
  state_key = "unscaled"

  variables {
    shutdown = { stop_schedule = "cron(0 20 ? * * *)", ecs = { cluster = "c", service = "s", count = 1, scaled = false } }
  }

  assert {
    condition     = keys(aws_scheduler_schedule.shutdown) == ["stop-service"]
    error_message = "There is no scalable target to suspend."
  }
}

run "schedules_of_groups_that_begin_alike" {
  command   = plan
  state_key = "alike"

  variables {
    shutdown = {
      stop_schedule = "cron(0 20 ? * * *)"
      node_groups = {
        cluster = "ml-platform-test"
        sizes = {
          for zone in ["a", "b"] : "ml-platform-test-training-of-the-largest-models-in-zone-${zone}" => { min_size = 0, max_size = 1 }
        }
      }
    }
  }

  assert {
    condition     = length(distinct([for schedule in aws_scheduler_schedule.shutdown : schedule.name])) == 2
    error_message = "A schedule's name that is too long keeps a digest of the whole."
  }
  assert {
    condition     = alltrue([for schedule in aws_scheduler_schedule.shutdown : length(schedule.name) == 64])
    error_message = "The service takes 64 characters."
  }
}
