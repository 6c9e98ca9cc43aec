output "alarm_names" {
  description = "Names of the alarms that roll a deployment back, by dataset."
  value = {
    for dataset in keys(var.endpoints) : dataset => sort([
      for key, alarm in aws_cloudwatch_metric_alarm.rollback : alarm.alarm_name
      if local.rollback_alarms[key].dataset == dataset
    ])
  }
}

output "bootstrap" {
  description = "What was made once for each endpoint that stands at rest, by dataset."
  value = {
    for dataset, endpoint in aws_sagemaker_endpoint.this : dataset => {
      image             = one(aws_sagemaker_model.bootstrap[dataset].primary_container).image
      model_arn         = aws_sagemaker_model.bootstrap[dataset].arn
      configuration_arn = aws_sagemaker_endpoint_configuration.bootstrap[dataset].arn
      endpoint_arn      = endpoint.arn
    }
  }
}

output "capture_uri" {
  description = "Where requests and answers are captured; {dataset} stands for the dataset's name."
  value       = local.capture_uri
}

output "capture_uris" {
  description = "Where requests and answers are captured, by dataset."
  value       = local.capture_uris
}

output "endpoint_names" {
  description = "Names of the endpoints, by dataset, whether they stand at rest or not."
  value       = local.endpoint_names
}

output "container_network" {
  description = "What the deployer's models shall have of the bootstrap model: isolation, and subnets and security groups of a VPC, or null."
  value = {
    isolation = local.network_isolation
    vpc = var.vpc_config == null ? null : {
      subnets         = var.vpc_config.subnet_ids
      security_groups = [aws_security_group.this[0].id]
    }
  }
}

output "execution_role_arn" {
  description = "Role that every model on an endpoint runs with."
  value       = aws_iam_role.execution.arn

  # Who deploys with it may rely on what it may do.
  depends_on = [aws_iam_role_policy.execution]
}

output "local_disk_types" {
  description = "Regular expression of the instance types whose disks encrypt themselves: SageMaker refuses a key for them."
  value       = local.local_disks
}

output "log_group_names" {
  description = "Log groups of the endpoints, by dataset."
  value       = { for dataset, group in aws_cloudwatch_log_group.endpoint : dataset => group.name }
}

output "security_group_id" {
  description = "Security group of the endpoints; null outside a VPC."
  value       = one(aws_security_group.this[*].id)
}
