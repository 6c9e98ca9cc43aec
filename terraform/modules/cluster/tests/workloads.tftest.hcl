# What the roles of the steps may do, statement by statement: a right more, or a wider one, fails here.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  name                 = "ml-platform-test"
  vpc_id               = "vpc-0123456789abcdef0"
  private_subnet_ids   = ["subnet-0000000000000000a", "subnet-0000000000000000b"]
  kms_key_arn          = "arn:aws:kms:eu-central-1:123456789012:key/00000000-0000-0000-0000-000000000000"
  airflow_role_arn     = "arn:aws:iam::123456789012:role/ml-platform-test-airflow"
  serving_role_arn     = "arn:aws:iam::123456789012:role/ml-platform-test-serving"
  studies_user_arn     = "arn:aws:rds-db:us-east-1:123456789012:dbuser:db-ABCDEFGHIJKL/studies"
  endpoint_name_prefix = "ml-platform-test"
  buckets = {
    landing   = { name = "landing", arn = "arn:aws:s3:::landing" }
    data      = { name = "data", arn = "arn:aws:s3:::data" }
    artifacts = { name = "artifacts", arn = "arn:aws:s3:::artifacts" }
  }
}

run "what_every_step_may_do" {
  command = plan

  # --- With data

  assert {
    condition = {
      for step, document in data.aws_iam_policy_document.step :
      step => toset(one([for statement in document.statement : statement.resources if statement.sid == "ReadRunDocuments"]))
      } == {
      validator = toset(["arn:aws:s3:::data/runs/*/config.json", "arn:aws:s3:::data/runs/*/inputs.json", "arn:aws:s3:::data/runs/*/validate/*"])
      preparer  = toset(["arn:aws:s3:::data/runs/*/config.json", "arn:aws:s3:::data/runs/*/inputs.json", "arn:aws:s3:::data/runs/*/prepare/*"])
      trainer   = toset(["arn:aws:s3:::data/runs/*/prepare/*", "arn:aws:s3:::data/runs/*/train/*"])
      evaluator = toset(["arn:aws:s3:::data/runs/*/prepare/*", "arn:aws:s3:::data/runs/*/evaluate/*"])
      deployer  = toset(["arn:aws:s3:::data/runs/*/evaluate/*", "arn:aws:s3:::data/deployments/*"])
      monitor = toset([
        "arn:aws:s3:::data/runs/*/prepare/*", "arn:aws:s3:::data/runs/*/evaluate/*", "arn:aws:s3:::data/capture/*",
        "arn:aws:s3:::data/monitoring/*",
      ])
    }
    error_message = "A step reads something else than its work needs."
  }

  assert {
    condition = {
      for step, document in data.aws_iam_policy_document.step :
      step => one(one([for statement in document.statement : statement.resources if statement.sid == "WriteOwnResults"]))
      } == {
      validator = "arn:aws:s3:::data/runs/*/validate/*"
      preparer  = "arn:aws:s3:::data/runs/*/prepare/*"
      trainer   = "arn:aws:s3:::data/runs/*/train/*"
      evaluator = "arn:aws:s3:::data/runs/*/evaluate/*"
      deployer  = "arn:aws:s3:::data/deployments/*"
      monitor   = "arn:aws:s3:::data/monitoring/*"
    }
    error_message = "A step writes somewhere else than into its own folder."
  }

  assert {
    condition = alltrue([
      for document in values(data.aws_iam_policy_document.step) : toset(distinct(flatten([
        for statement in document.statement : tolist(statement.actions) if startswith(statement.sid, "DecryptAnd")
      ]))) == toset(["kms:Decrypt", "kms:GenerateDataKey"])
      && one([for statement in document.statement : one(statement.condition).values if startswith(statement.sid, "DecryptAnd")])
      == tolist(["s3.eu-central-1.amazonaws.com"])
    ])
    error_message = "The key may be used through S3 only."
  }

  assert {
    condition = {
      for step, document in data.aws_iam_policy_document.step :
      step => toset(flatten([for statement in document.statement : tolist(statement.resources) if statement.effect == "Deny"]))
      if anytrue([for statement in document.statement : statement.effect == "Deny"])
    } == { validator = toset(["arn:aws:s3:::landing/quarantine/*", "arn:aws:s3:::landing/labels/*"]) }
    error_message = "The step that reads what landed must leave refused files and labels alone."
  }

  # --- The monitor

  assert {
    condition = {
      for statement in data.aws_iam_policy_document.monitor.statement :
      statement.sid => "${join(" ", sort(statement.actions))} on ${join(" ", sort(statement.resources))}"
      } == {
      ReadLabels      = "s3:GetObject on arn:aws:s3:::landing/labels/*"
      ListLabels      = "s3:ListBucket on arn:aws:s3:::landing"
      CountRequests   = "cloudwatch:GetMetricStatistics on *"
      PutMeasurements = "cloudwatch:PutMetricData on *"
    }
    error_message = "Of the landing bucket the monitor reads labels and nothing else; of CloudWatch, counts of requests."
  }

  assert {
    condition = {
      for statement in data.aws_iam_policy_document.monitor.statement :
      statement.sid => one([for condition in statement.condition : "${condition.test} ${condition.variable} ${join(" ", condition.values)}"])
      if length(coalesce(statement.condition, [])) > 0
      } == {
      ListLabels      = "StringLike s3:prefix labels/*"
      PutMeasurements = "StringEquals cloudwatch:namespace MLPlatform/Monitoring"
    }
    error_message = "Labels are all it may list there, and its own namespace all it may put metrics into."
  }

  # --- The deployer

  # What containers/deployer calls (sagemaker_api.py), with the permissions that SageMaker asks of who calls it.
  assert {
    condition = {
      for statement in data.aws_iam_policy_document.deployer.statement : statement.sid => join(" ", sort(statement.actions))
      } == {
      PublishModels                       = "s3:AbortMultipartUpload s3:GetObject s3:PutObject"
      TellMissingFromForbiddenInArtifacts = "s3:ListBucket"
      RollOut = join(" ", [
        "sagemaker:AddTags", "sagemaker:CreateEndpoint", "sagemaker:CreateEndpointConfig", "sagemaker:CreateModel",
        "sagemaker:DeleteEndpoint", "sagemaker:DescribeEndpoint", "sagemaker:DescribeEndpointConfig",
        "sagemaker:DescribeModel", "sagemaker:InvokeEndpoint", "sagemaker:UpdateEndpoint",
        "sagemaker:UpdateEndpointWeightsAndCapacities",
      ])
      CleanUp = "sagemaker:DeleteEndpointConfig sagemaker:DeleteModel"
      LookAround = join(" ", [
        "application-autoscaling:DescribeScalableTargets", "sagemaker:ListEndpointConfigs", "sagemaker:ListModels",
      ])
      LetSageMakerUseKey        = "kms:CreateGrant"
      WatchAlarms               = "cloudwatch:DescribeAlarms"
      LetModelsRunAsServingRole = "iam:PassRole"
    }
    error_message = "The deployer may do something else than what it calls."
  }

  assert {
    condition = {
      for statement in data.aws_iam_policy_document.deployer.statement : statement.sid => join(" ", sort(statement.resources))
      } == {
      PublishModels                       = "arn:aws:s3:::artifacts/models/*"
      TellMissingFromForbiddenInArtifacts = "arn:aws:s3:::artifacts"
      RollOut = join(" ", sort([
        for kind in ["endpoint", "endpoint-config", "model"] :
        "arn:aws:sagemaker:eu-central-1:123456789012:${kind}/ml-platform-test-*"
      ]))
      CleanUp = join(" ", [
        for kind in ["endpoint-config", "model"] :
        "arn:aws:sagemaker:eu-central-1:123456789012:${kind}/ml-platform-test-*-v*-????????-????????"
      ])
      LookAround                = "*"
      LetSageMakerUseKey        = var.kms_key_arn
      WatchAlarms               = "arn:aws:cloudwatch:eu-central-1:123456789012:alarm:*"
      LetModelsRunAsServingRole = var.serving_role_arn
    }
    error_message = "The deployer's rights reach further than to what bears the environment's name."
  }

  assert {
    condition = {
      for statement in data.aws_iam_policy_document.deployer.statement : statement.sid => join(", ", sort([
        for condition in statement.condition : "${condition.test} ${condition.variable} ${join(" ", condition.values)}"
      ])) if length(coalesce(statement.condition, [])) > 0
      } == {
      TellMissingFromForbiddenInArtifacts = "StringLikeIfExists s3:prefix models/*"
      LetSageMakerUseKey = join(", ", [
        "Bool kms:GrantIsForAWSResource true", "StringEquals kms:ViaService sagemaker.eu-central-1.amazonaws.com",
      ])
      LetModelsRunAsServingRole = "StringEquals iam:PassedToService sagemaker.amazonaws.com"
    }
    error_message = "A key is lent, and a role handed on, to SageMaker only."
  }

  # --- Learning and clearing away

  assert {
    condition = {
      for statement in data.aws_iam_policy_document.trainer.statement :
      statement.sid => "${join(" ", sort(statement.actions))} on ${join(" ", sort(statement.resources))}"
      } == {
      RemoveCheckpoints    = "s3:DeleteObject on arn:aws:s3:::data/runs/*/train/*/checkpoints/*"
      LearnFromOtherTrials = "rds-db:connect on ${var.studies_user_arn}"
    }
    error_message = "The trainer removes checkpoints, signs in to the studies' database, and no more."
  }

  assert {
    condition     = length(coalesce(data.aws_iam_policy_document.preparer.statement, [])) == 0
    error_message = "Without Spark the preparer needs no right beyond its files."
  }
}
