# MWAA writes to groups of these names, whatever the class. It would make them itself: without retention, and left behind
# when it goes. How requirements and startup script went is in the group of the container that ran them: Scheduler, Worker
# and WebServer; on mw1.micro, whose scheduler and worker share a container, Worker and WebServer.
resource "aws_cloudwatch_log_group" "this" {
  for_each = toset(["DAGProcessing", "Scheduler", "Task", "WebServer", "Worker"])

  name              = "airflow-${var.name}-${each.key}"
  retention_in_days = var.log_retention_days
  kms_key_id        = var.kms_key_arn
}
