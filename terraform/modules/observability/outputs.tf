output "alarm_keys" {
  description = "Keys of all alarms; each is the name of a runbook in docs/runbooks."
  value       = sort(distinct([for key in keys(local.alarms) : split("/", key)[0]]))
}

output "alarm_names" {
  description = "Names of all alarms."
  value       = sort([for alarm in aws_cloudwatch_metric_alarm.this : alarm.alarm_name])
}

output "alarms_topic_arn" {
  description = "Topic for alarms, also for budgets and event rules of this account."
  value       = aws_sns_topic.this["alarms"].arn

  # AWS Budgets refuses a topic to which it may not publish.
  depends_on = [aws_sns_topic_policy.this]
}

output "dashboard_name" {
  description = "Name of the CloudWatch dashboard."
  value       = aws_cloudwatch_dashboard.this.dashboard_name
}

output "notifications_topic_arn" {
  description = "Topic for the pipeline's messages to people: deployed, rejected, failed."
  value       = aws_sns_topic.this["notifications"].arn
  depends_on  = [aws_sns_topic_policy.this]
}
