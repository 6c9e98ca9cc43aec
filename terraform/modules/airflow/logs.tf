# MWAA writes to groups of these names. It would make them itself: without retention, and left behind when it goes.
resource "aws_cloudwatch_log_group" "this" {
  for_each = toset(["DAGProcessing", "Scheduler", "Task", "WebServer", "Worker"])

  name              = "airflow-${var.name}-${each.key}"
  retention_in_days = var.log_retention_days
  kms_key_id        = var.kms_key_arn
}
