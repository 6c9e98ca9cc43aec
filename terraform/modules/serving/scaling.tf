locals {
  scaled = {
    for dataset, endpoint in local.at_rest : dataset => endpoint
    if coalesce(endpoint.max_instance_count, endpoint.instance_count) > endpoint.instance_count
  }
}

# SageMaker keeps the target over deployments as long as the variant keeps its name and its instance type.
resource "aws_appautoscaling_target" "endpoint" {
  for_each = local.scaled

  service_namespace  = "sagemaker"
  scalable_dimension = "sagemaker:variant:DesiredInstanceCount"
  resource_id        = "endpoint/${aws_sagemaker_endpoint.this[each.key].name}/variant/${local.variant}"
  min_capacity       = each.value.instance_count
  max_capacity       = each.value.max_instance_count
}

resource "aws_appautoscaling_policy" "invocations" {
  for_each = local.scaled

  name               = "${local.endpoint_names[each.key]}-invocations"
  policy_type        = "TargetTrackingScaling"
  service_namespace  = aws_appautoscaling_target.endpoint[each.key].service_namespace
  scalable_dimension = aws_appautoscaling_target.endpoint[each.key].scalable_dimension
  resource_id        = aws_appautoscaling_target.endpoint[each.key].resource_id

  target_tracking_scaling_policy_configuration {
    target_value = each.value.invocations_per_instance
    # An instance takes minutes to start: out as soon as it is needed, in only when the need is gone for a while.
    scale_out_cooldown = 60
    scale_in_cooldown  = 600

    predefined_metric_specification {
      predefined_metric_type = "SageMakerVariantInvocationsPerInstance"
    }
  }
}
