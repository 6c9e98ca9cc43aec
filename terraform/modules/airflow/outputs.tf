output "environment_arn" {
  description = "ARN of the Airflow environment."
  value       = aws_mwaa_environment.this.arn
}

output "environment_name" {
  description = "Name of the Airflow environment."
  value       = aws_mwaa_environment.this.name
}

output "execution_role_arn" {
  description = "ARN of the role that Airflow and its tasks run with; it does not depend on the cluster."
  value       = aws_iam_role.execution.arn
}

output "log_group_names" {
  description = "Names of the log groups by kind: DAGProcessing, Scheduler, Task, WebServer, Worker."
  value       = { for kind, group in aws_cloudwatch_log_group.this : kind => group.name }
}

output "security_group_id" {
  description = "ID of Airflow's security group; the cluster and MLflow let it in."
  value       = aws_security_group.this.id
}

output "webserver_url" {
  description = "Host name of Airflow's web server, without a scheme."
  value       = aws_mwaa_environment.this.webserver_url
}
