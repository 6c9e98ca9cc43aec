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
    defaults = { arn = "arn:aws:iam::123456789012:role/ml-platform-test-serving" }
  }
}

variables {
  name             = "ml-platform-test"
  image            = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/ml-platform/serving@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
  kms_key_arn      = "arn:aws:kms:eu-central-1:123456789012:key/11111111-2222-3333-4444-555555555555"
  artifacts_bucket = { name = "ml-platform-test-artifacts", arn = "arn:aws:s3:::ml-platform-test-artifacts" }
  data_bucket      = { name = "ml-platform-test-data", arn = "arn:aws:s3:::ml-platform-test-data" }
  endpoints        = { flights = { instance_type = "ml.m6i.large" } }
  owners           = { flights = "Lärm\n & Co, 2/3 (ops)", parcels = "another" }
}

run "defaults" {
  command   = apply
  state_key = "live" # of its own: the runs after it plan for an empty account

  assert {
    condition     = aws_sagemaker_endpoint.this["flights"].name == "ml-platform-test-flights"
    error_message = "The endpoint is called <name>-<dataset>, as platform.json tells the deployer."
  }
  assert {
    condition = alltrue([
      for tags in [
        aws_sagemaker_endpoint.this["flights"].tags, aws_sagemaker_endpoint_configuration.bootstrap["flights"].tags,
        aws_sagemaker_model.bootstrap["flights"].tags,
      ] : tags == tomap({ dataset = "flights", owner = "Lärm_ _ Co_ 2/3 _ops_" })
    ])
    error_message = "What stands at rest says whose it is, in characters that AWS takes."
  }
  assert {
    condition     = aws_sagemaker_endpoint.this["flights"].endpoint_config_name == "ml-platform-test-flights-bootstrap"
    error_message = "A new endpoint stands with the bootstrap configuration."
  }
  assert {
    condition     = one(aws_sagemaker_model.bootstrap["flights"].primary_container).image == var.image
    error_message = "The bootstrap model is the serving image."
  }
  assert {
    condition     = one(aws_sagemaker_model.bootstrap["flights"].primary_container).model_data_url == null
    error_message = "The bootstrap model has no model data."
  }
  assert {
    condition     = aws_sagemaker_model.bootstrap["flights"].enable_network_isolation
    error_message = "The container has no network."
  }
  assert {
    condition     = length(aws_sagemaker_model.bootstrap["flights"].vpc_config) == 0
    error_message = "Without vpc_config the model is in no VPC."
  }
  assert {
    condition     = one(aws_sagemaker_endpoint_configuration.bootstrap["flights"].production_variants).variant_name == "primary"
    error_message = "The variant is called as the deployer calls it."
  }
  assert {
    condition     = one(aws_sagemaker_endpoint_configuration.bootstrap["flights"].production_variants).initial_instance_count == 1
    error_message = "One instance is the default."
  }
  assert {
    condition     = aws_sagemaker_endpoint_configuration.bootstrap["flights"].kms_key_arn == var.kms_key_arn
    error_message = "The endpoint's volume is encrypted with the environment's key."
  }
  assert {
    condition = (
      one(aws_sagemaker_endpoint_configuration.bootstrap["flights"].data_capture_config).destination_s3_uri
      == "s3://ml-platform-test-data/capture/ml-platform-test-flights"
    )
    error_message = "Captured data goes to capture/<endpoint> of the data bucket."
  }
  assert {
    condition     = one(aws_sagemaker_endpoint_configuration.bootstrap["flights"].data_capture_config).kms_key_id == var.kms_key_arn
    error_message = "Captured data is encrypted with the environment's key."
  }
  assert {
    condition     = aws_cloudwatch_log_group.endpoint["flights"].name == "/aws/sagemaker/Endpoints/ml-platform-test-flights"
    error_message = "The log group is the one SageMaker writes to."
  }
  assert {
    condition     = aws_cloudwatch_log_group.endpoint["flights"].retention_in_days == 90 && aws_cloudwatch_log_group.endpoint["flights"].kms_key_id == var.kms_key_arn
    error_message = "Logs are kept for 90 days, encrypted."
  }
  assert {
    condition     = length(aws_appautoscaling_target.endpoint) == 0 && length(aws_appautoscaling_policy.invocations) == 0
    error_message = "Nothing scales where there is no more than the least number of instances."
  }
  assert {
    condition     = length(aws_security_group.this) == 0 && output.security_group_id == null
    error_message = "There is no security group outside a VPC."
  }
  assert {
    condition = output.alarm_names["flights"] == tolist([
      "ml-platform-test-flights-rollback-4xx",
      "ml-platform-test-flights-rollback-5xx",
      "ml-platform-test-flights-rollback-latency",
      "ml-platform-test-flights-rollback-overhead",
    ])
    error_message = "Each endpoint has four alarms for the deployer."
  }
  assert {
    condition = alltrue([
      for alarm in aws_cloudwatch_metric_alarm.rollback :
      alarm.dimensions == tomap({ EndpointName = "ml-platform-test-flights", VariantName = "primary" })
      && alarm.treat_missing_data == "notBreaching" && alarm.namespace == "AWS/SageMaker" && length(alarm.alarm_actions) == 0
    ])
    error_message = "Alarms watch the variant, and take no data for no problem."
  }
  assert {
    condition     = aws_cloudwatch_metric_alarm.rollback["flights/latency"].threshold == 500000
    error_message = "ModelLatency is in microseconds."
  }
  assert {
    condition     = aws_cloudwatch_metric_alarm.rollback["flights/latency"].extended_statistic == "p99" && aws_cloudwatch_metric_alarm.rollback["flights/latency"].statistic == null
    error_message = "Latency is watched at its 99th percentile."
  }
  assert {
    condition     = aws_cloudwatch_metric_alarm.rollback["flights/5xx"].statistic == "Average" && aws_cloudwatch_metric_alarm.rollback["flights/5xx"].threshold == 0.01
    error_message = "The average of Invocation5XXErrors is the share of failed requests."
  }
  assert {
    condition     = output.endpoint_names == { flights = "ml-platform-test-flights" }
    error_message = "endpoint_names maps datasets to endpoints."
  }
  assert {
    condition = (
      output.capture_uri == "s3://ml-platform-test-data/capture/ml-platform-test-{dataset}"
      && output.capture_uris == { flights = "s3://ml-platform-test-data/capture/ml-platform-test-flights" }
    )
    error_message = "The deployer captures where the bootstrap configuration does, whatever the dataset."
  }
  assert {
    condition     = output.container_network.isolation && output.container_network.vpc == null
    error_message = "The deployer's models have no network either."
  }
  assert {
    condition = (
      output.bootstrap["flights"].image == var.image
      && output.log_group_names == { flights = "/aws/sagemaker/Endpoints/ml-platform-test-flights" }
    )
    error_message = "The outputs name what was made."
  }
  assert {
    condition = {
      for statement in data.aws_iam_policy_document.execution.statement :
      statement.sid => "${join(" ", sort(statement.actions))} on ${join(" ", sort(statement.resources))}"
      if contains(["ReadModels", "ListModels", "WriteCapturedData", "UseKeyThroughS3"], statement.sid)
      } == {
      ReadModels        = "s3:GetObject on arn:aws:s3:::ml-platform-test-artifacts/models/*"
      ListModels        = "s3:ListBucket on arn:aws:s3:::ml-platform-test-artifacts"
      WriteCapturedData = "s3:AbortMultipartUpload s3:PutObject on arn:aws:s3:::ml-platform-test-data/capture/ml-platform-test-*"
      UseKeyThroughS3   = "kms:Decrypt kms:GenerateDataKey on ${var.kms_key_arn}"
    }
    error_message = "A model reads models and writes captured data, with the environment's key, and no other data."
  }
  assert {
    condition = length([
      for statement in data.aws_iam_policy_document.execution.statement : statement.sid
      if contains(statement.resources, "*") && !contains(["LogInToRegistry", "WriteMetrics"], statement.sid)
    ]) == 0
    error_message = "Only what knows no resources is allowed on all of them."
  }
}

# What is made once stays as it is: whatever the variables say later, nothing of the three is replaced or changed, since
# the bootstrap configuration may be live, or what a deployment has to roll back to.
run "nothing_live_changes_with_the_variables" {
  command   = apply
  state_key = "live"

  variables {
    image                 = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/ml-platform/serving:git-1234567"
    kms_key_arn           = "arn:aws:kms:eu-central-1:123456789012:key/99999999-2222-3333-4444-555555555555"
    environment_variables = { SERVING_MAX_IN_FLIGHT = "64" }
    endpoints = {
      flights = { instance_type = "ml.m7i.xlarge", instance_count = 2, data_capture_percentage = 50 }
    }
  }

  assert {
    condition     = one(aws_sagemaker_model.bootstrap["flights"].primary_container).image == run.defaults.bootstrap["flights"].image
    error_message = "A new image replaced the bootstrap model."
  }
  assert {
    condition     = aws_sagemaker_model.bootstrap["flights"].arn == run.defaults.bootstrap["flights"].model_arn
    error_message = "The bootstrap model was replaced."
  }
  assert {
    condition     = aws_sagemaker_endpoint_configuration.bootstrap["flights"].arn == run.defaults.bootstrap["flights"].configuration_arn
    error_message = "The bootstrap configuration was replaced."
  }
  assert {
    condition     = one(aws_sagemaker_endpoint_configuration.bootstrap["flights"].production_variants).instance_type == "ml.m6i.large"
    error_message = "The bootstrap configuration was changed."
  }
  assert {
    condition     = aws_sagemaker_endpoint.this["flights"].arn == run.defaults.bootstrap["flights"].endpoint_arn
    error_message = "The endpoint was replaced."
  }
}

run "not_at_rest" {
  command = plan

  variables {
    endpoints = { flights = { instance_type = "ml.t2.medium", at_rest = false } }
  }

  assert {
    condition = (
      length(aws_sagemaker_endpoint.this) == 0 && length(aws_sagemaker_model.bootstrap) == 0
      && length(aws_sagemaker_endpoint_configuration.bootstrap) == 0
    )
    error_message = "An endpoint that does not stand at rest is left to the deployer."
  }
  assert {
    condition     = length(aws_cloudwatch_metric_alarm.rollback) == 4 && length(aws_cloudwatch_log_group.endpoint) == 1
    error_message = "The deployer needs the alarms, and the log group its retention, before there is an endpoint."
  }
  assert {
    condition     = output.endpoint_names["flights"] == "ml-platform-test-flights"
    error_message = "The deployer needs the name."
  }
}

run "scaled" {
  command = plan

  variables {
    endpoints = {
      flights = { instance_type = "ml.m6i.large", instance_count = 2, max_instance_count = 6, invocations_per_instance = 1200 }
      iris    = { instance_type = "ml.m6i.large", max_instance_count = 1 }
    }
  }

  assert {
    condition     = keys(aws_appautoscaling_target.endpoint) == ["flights"]
    error_message = "Only the endpoint with room to grow is registered."
  }
  assert {
    condition = (
      aws_appautoscaling_target.endpoint["flights"].resource_id == "endpoint/ml-platform-test-flights/variant/primary"
      && aws_appautoscaling_target.endpoint["flights"].min_capacity == 2
      && aws_appautoscaling_target.endpoint["flights"].max_capacity == 6
    )
    error_message = "The variant scales from instance_count to max_instance_count."
  }
  assert {
    condition     = one(aws_appautoscaling_policy.invocations["flights"].target_tracking_scaling_policy_configuration).target_value == 1200
    error_message = "It tracks the requests per instance."
  }
  assert {
    condition     = length(aws_cloudwatch_metric_alarm.rollback) == 8
    error_message = "Each endpoint has its own alarms."
  }
  assert {
    condition = alltrue([
      for dataset in ["flights", "iris"] : length(output.alarm_names[dataset]) == 4
      && alltrue([for name in output.alarm_names[dataset] : startswith(name, "ml-platform-test-${dataset}-rollback-")])
    ])
    error_message = "A deployment is watched by the alarms of its own dataset, and by no other's."
  }
}

run "in_a_vpc" {
  command = plan

  variables {
    vpc_config = { vpc_id = "vpc-1", subnet_ids = ["subnet-1", "subnet-2"] }
  }

  assert {
    condition     = aws_security_group.this[0].vpc_id == "vpc-1"
    error_message = "The security group is in the VPC."
  }
  assert {
    condition     = one(aws_sagemaker_model.bootstrap["flights"].vpc_config).subnets == toset(["subnet-1", "subnet-2"])
    error_message = "The model runs in the subnets."
  }
  assert {
    condition     = output.container_network.vpc.subnets == tolist(["subnet-1", "subnet-2"])
    error_message = "The deployer's models run in the same subnets."
  }
  assert {
    condition     = aws_vpc_security_group_egress_rule.https[0].from_port == 443 && aws_vpc_security_group_egress_rule.https[0].to_port == 443
    error_message = "The way out is HTTPS only."
  }
}

run "local_disks_take_no_key" {
  command = plan

  variables {
    endpoints = { flights = { instance_type = "ml.g5.xlarge" }, iris = { instance_type = "ml.m5d.large" } }
  }

  assert {
    condition     = alltrue([for config in aws_sagemaker_endpoint_configuration.bootstrap : config.kms_key_arn == null])
    error_message = "SageMaker refuses a key for instances with local disks."
  }
  assert {
    condition     = can(regex(output.local_disk_types, "ml.g5.xlarge")) && !can(regex(output.local_disk_types, "ml.m6i.large"))
    error_message = "The deployer must know the same instance types."
  }
}

run "no_capture" {
  command = plan

  variables {
    endpoints = { flights = { instance_type = "ml.m6i.large", data_capture_percentage = 0 } }
  }

  assert {
    condition     = length(aws_sagemaker_endpoint_configuration.bootstrap["flights"].data_capture_config) == 0
    error_message = "0 turns the capture off."
  }
}

run "alarms_with_topic_and_runbook" {
  command = plan

  variables {
    alarm_topic_arns = ["arn:aws:sns:eu-central-1:123456789012:alarms"]
    runbook_base_url = "https://example.com/runbooks"
    endpoints = {
      flights = { instance_type = "ml.m6i.large", alarms = { server_error_share = 0.005, latency_p99_ms = 120 } }
    }
  }

  assert {
    condition = alltrue([
      for alarm in aws_cloudwatch_metric_alarm.rollback :
      endswith(alarm.alarm_description, " https://example.com/runbooks/endpoint-rollback.md")
      && alarm.alarm_actions == toset(["arn:aws:sns:eu-central-1:123456789012:alarms"]) && alarm.ok_actions == alarm.alarm_actions
    ])
    error_message = "Alarms notify the topic and end with the link to their runbook."
  }
  assert {
    condition     = startswith(aws_cloudwatch_metric_alarm.rollback["flights/5xx"].alarm_description, "Endpoint ml-platform-test-flights: more than 0.5 % of requests")
    error_message = "The description says the share in percent."
  }
  assert {
    condition     = aws_cloudwatch_metric_alarm.rollback["flights/latency"].threshold == 120000
    error_message = "Thresholds can be set for each endpoint."
  }
}

run "a_long_owner" {
  command   = plan
  state_key = "long"

  variables {
    owners = { flights = join("", [for _ in range(300) : "o"]) }
  }

  assert {
    # What `make_tags` in containers/deployer/src/deployer/plan.py makes of it: what is deployed goes by one owner.
    condition     = aws_sagemaker_endpoint.this["flights"].tags.owner == "${join("", [for _ in range(247) : "o"])}-0d704c10"
    error_message = "An owner that is too long for a tag keeps a digest of the whole."
  }
}

run "no_endpoints" {
  command = plan

  variables {
    endpoints = {}
  }

  assert {
    condition     = length(output.alarm_names) == 0 && length(output.endpoint_names) == 0
    error_message = "A platform without endpoints is fine."
  }
}
