output "budget_name" {
  description = "Name of the monthly budget."
  value       = aws_budgets_budget.this.name
}

output "failed_queue_url" {
  description = "Queue with the calls of the shutdown that failed; null without one."
  value       = one(aws_sqs_queue.failed[*].url)
}

output "schedule_names" {
  description = "Names of the schedules that stop and start things."
  value       = sort([for schedule in aws_scheduler_schedule.shutdown : schedule.name])
}
