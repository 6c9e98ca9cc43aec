output "application_arn" {
  description = "ARN of the EMR Serverless application."
  value       = aws_emrserverless_application.this.arn
}

output "application_id" {
  description = "ID of the EMR Serverless application."
  value       = aws_emrserverless_application.this.id
}

output "execution_role_arn" {
  description = "ARN of the role that jobs run as."
  value       = aws_iam_role.job.arn
}
