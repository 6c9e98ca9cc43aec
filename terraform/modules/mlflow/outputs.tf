output "cluster_name" {
  description = "Name of the ECS cluster."
  value       = aws_ecs_cluster.this.name
}

output "database_address" {
  description = "Host name of the database."
  value       = aws_db_instance.this.address
}

output "database_arn" {
  description = "ARN of the database."
  value       = aws_db_instance.this.arn
}

output "database_identifier" {
  description = "Identifier of the database."
  value       = aws_db_instance.this.identifier
}

output "database_secret_arn" {
  description = "ARN of the secret with the database's user and password, which RDS changes every seven days."
  value       = local.database_secret_arn
}

output "final_snapshot_identifier" {
  description = "Name of the snapshot taken when the database is destroyed; null if none is."
  value       = aws_db_instance.this.final_snapshot_identifier
}

output "load_balancer_arn_suffix" {
  description = "The load balancer as CloudWatch's dimension LoadBalancer names it."
  value       = aws_lb.this.arn_suffix
}

output "migration_task_definition_arn" {
  description = "ARN of the task definition that upgrades the database's tables; run once before a roll-out."
  value       = aws_ecs_task_definition.migration.arn
}

output "security_group_id" {
  description = "ID of the load balancer's security group, which clients talk to."
  value       = aws_security_group.load_balancer.id
}

output "service_name" {
  description = "Name of the ECS service."
  value       = aws_ecs_service.this.name
}

output "service_security_group_id" {
  description = "ID of the server's security group; the migration runs in it."
  value       = aws_security_group.service.id
}

output "target_group_arn_suffix" {
  description = "The target group as CloudWatch's dimension TargetGroup names it."
  value       = aws_lb_target_group.this.arn_suffix
}

output "task_count" {
  description = "Tasks that the service starts with, to go back to after a shut-down."
  value       = var.task.min_count
}

output "tracking_uri" {
  description = "Address of the tracking server and model registry."
  value       = "${local.scheme}://${local.domain_name}"
}

output "studies_database" {
  description = "Name of the database, and of its user, in which trials share what they learned."
  value       = local.studies_database
}

output "studies_user_arn" {
  description = "What a role must be allowed to rds-db:connect as, to use the studies' database."
  value       = "arn:${local.partition}:rds-db:${local.region}:${local.account_id}:dbuser:${aws_db_instance.this.resource_id}/${local.studies_database}"
}
