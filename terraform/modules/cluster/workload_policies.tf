# What each service account may do in AWS: what its step does, and no more.
#
# The pipeline's layout (dags/mlplatform): a run lives in `runs/<dataset>/<run key>/`, each step reads what earlier
# ones left there and writes under its own folder. IAM's `*` spans slashes, so `runs/*/prepare/*` is that of any run.
# Models and metrics go over HTTP to MLflow, which alone touches its artifacts.

locals {
  run_documents = {
    config = "runs/*/config.json"
    inputs = "runs/*/inputs.json"
  }

  # versions: landed and accepted files, which a run pins to the version it saw first.
  # read, write: keys of the data bucket.
  step_access = {
    validator = {
      versions = { landing = ["*.parquet"], data = ["raw/*"] }
      read     = [local.run_documents.config, local.run_documents.inputs, "runs/*/validate/*"]
      write    = ["runs/*/validate/*"]
    }
    preparer = {
      versions = { data = ["raw/*"] } # by now the files of a run are accepted
      read     = [local.run_documents.config, local.run_documents.inputs, "runs/*/prepare/*"]
      write    = ["runs/*/prepare/*"]
    }
    trainer = {
      versions = {}
      read     = ["runs/*/prepare/*", "runs/*/train/*"]
      write    = ["runs/*/train/*"]
    }
    evaluator = {
      versions = {}
      read     = ["runs/*/prepare/*", "runs/*/evaluate/*"]
      write    = ["runs/*/evaluate/*"]
    }
    monitor = {
      versions = {}
      read     = ["runs/*/prepare/*", "runs/*/evaluate/*", "capture/*", "monitoring/*"]
      write    = ["monitoring/*"]
    }
    deployer = {
      versions = {}
      read     = ["runs/*/evaluate/*", "deployments/*"]
      write    = ["deployments/*"]
    }
  }

  # Keys by bucket, whatever the kind of reading.
  step_listings = {
    for step, access in local.step_access : step => {
      for bucket in distinct(concat(keys(access.versions), ["data"])) : bucket =>
      concat(lookup(access.versions, bucket, []), bucket == "data" ? access.read : [])
    }
  }
}

data "aws_iam_policy_document" "step" {
  for_each = local.step_access

  dynamic "statement" {
    for_each = each.value.versions

    content {
      sid       = "Read${title(statement.key)}Files"
      actions   = ["s3:GetObject", "s3:GetObjectVersion"]
      resources = [for key in statement.value : "${var.buckets[statement.key].arn}/${key}"]
    }
  }

  statement {
    sid       = "ReadRunDocuments"
    actions   = ["s3:GetObject"]
    resources = [for key in each.value.read : "${var.buckets.data.arn}/${key}"]
  }

  statement {
    sid       = "WriteOwnResults"
    actions   = ["s3:AbortMultipartUpload", "s3:PutObject"]
    resources = [for key in each.value.write : "${var.buckets.data.arn}/${key}"]
  }

  # Without the right to list a key S3 answers 403 for one that is missing, and a step could not tell "not done yet"
  # from "forbidden". IfExists, because it is not documented whether S3 knows a prefix when it decides that.
  dynamic "statement" {
    for_each = local.step_listings[each.key]

    content {
      sid       = "TellMissingFromForbiddenIn${title(statement.key)}"
      actions   = ["s3:ListBucket"]
      resources = [var.buckets[statement.key].arn]

      condition {
        test     = "StringLikeIfExists"
        variable = "s3:prefix"
        values   = statement.value
      }
    }
  }

  # Files that were refused are for people, and what really happened is for the step that monitors.
  dynamic "statement" {
    for_each = contains(keys(each.value.versions), "landing") ? [var.buckets.landing.arn] : []

    content {
      sid       = "LeaveQuarantineAndLabelsAlone"
      effect    = "Deny"
      actions   = ["s3:GetObject", "s3:GetObjectVersion"]
      resources = ["${statement.value}/quarantine/*", "${statement.value}/labels/*"]
    }
  }

  statement {
    sid       = "DecryptAndEncryptThroughS3"
    actions   = ["kms:Decrypt", "kms:GenerateDataKey"]
    resources = [var.kms_key_arn]

    condition {
      test     = "StringEquals"
      variable = "kms:ViaService"
      values   = ["s3.${local.region}.amazonaws.com"]
    }
  }
}

data "aws_iam_policy_document" "preparer" {
  source_policy_documents = [data.aws_iam_policy_document.step["preparer"].json]

  # What a Spark job left half-done, and copies of inputs at their versions.
  dynamic "statement" {
    for_each = var.spark[*]

    content {
      sid       = "ClearAwayAfterSpark"
      actions   = ["s3:DeleteObject"]
      resources = ["${var.buckets.data.arn}/runs/*/prepare/*"]
    }
  }

  dynamic "statement" {
    for_each = var.spark[*]

    content {
      sid       = "SubmitSparkJobs"
      actions   = ["emr-serverless:ListJobRuns", "emr-serverless:StartJobRun"]
      resources = [statement.value.application_arn]
    }
  }

  dynamic "statement" {
    for_each = var.spark[*]

    content {
      sid       = "FollowSparkJobs"
      actions   = ["emr-serverless:CancelJobRun", "emr-serverless:GetJobRun"]
      resources = ["${statement.value.application_arn}/jobruns/*"]
    }
  }

  dynamic "statement" {
    for_each = var.spark[*]

    content {
      sid       = "LetSparkJobsRunAsTheirRole"
      actions   = ["iam:PassRole"]
      resources = [statement.value.execution_role_arn]

      condition {
        test     = "StringEquals"
        variable = "iam:PassedToService"
        values   = ["emr-serverless.amazonaws.com"]
      }
    }
  }
}

data "aws_iam_policy_document" "trainer" {
  source_policy_documents = [data.aws_iam_policy_document.step["trainer"].json]

  # Of a finished trial nothing is left to resume.
  statement {
    sid       = "RemoveCheckpoints"
    actions   = ["s3:DeleteObject"]
    resources = ["${var.buckets.data.arn}/runs/*/train/*/checkpoints/*"]
  }

  statement {
    sid       = "LearnFromOtherTrials"
    actions   = ["rds-db:connect"]
    resources = [var.studies_user_arn]
  }
}

data "aws_iam_policy_document" "monitor" {
  source_policy_documents = [data.aws_iam_policy_document.step["monitor"].json]

  # Of the landing bucket only what people say of answers: `labels/<dataset>/`.
  statement {
    sid       = "ReadLabels"
    actions   = ["s3:GetObject"]
    resources = ["${var.buckets.landing.arn}/labels/*"]
  }

  statement {
    sid       = "ListLabels"
    actions   = ["s3:ListBucket"]
    resources = [var.buckets.landing.arn]

    condition {
      test     = "StringLike"
      variable = "s3:prefix"
      values   = ["labels/*"]
    }
  }

  statement {
    sid       = "CountRequests"
    actions   = ["cloudwatch:GetMetricStatistics"]
    resources = ["*"] # the action knows no resources
  }

  statement {
    sid       = "PutMeasurements"
    actions   = ["cloudwatch:PutMetricData"]
    resources = ["*"] # the action knows no resources, only namespaces

    condition {
      test     = "StringEquals"
      variable = "cloudwatch:namespace"
      values   = ["MLPlatform/Monitoring"]
    }
  }
}

data "aws_iam_policy_document" "deployer" {
  source_policy_documents = [data.aws_iam_policy_document.step["deployer"].json]

  # `models/<registered model>/<version>/model.tar.gz`: packed here, fetched by the endpoint.
  statement {
    sid       = "PublishModels"
    actions   = ["s3:AbortMultipartUpload", "s3:GetObject", "s3:PutObject"]
    resources = ["${var.buckets.artifacts.arn}/models/*"]
  }

  statement {
    sid       = "TellMissingFromForbiddenInArtifacts"
    actions   = ["s3:ListBucket"]
    resources = [var.buckets.artifacts.arn]

    condition {
      test     = "StringLikeIfExists"
      variable = "s3:prefix"
      values   = ["models/*"]
    }
  }

  # Endpoints, and the models and configurations the deployer makes for them, are all named after the endpoint.
  # No endpoint is ever deleted but one that failed or was never finished.
  statement {
    sid = "RollOut"
    actions = [
      "sagemaker:AddTags",
      "sagemaker:CreateEndpoint",
      "sagemaker:CreateEndpointConfig",
      "sagemaker:CreateModel",
      "sagemaker:DeleteEndpoint",
      "sagemaker:DescribeEndpoint",
      "sagemaker:DescribeEndpointConfig",
      "sagemaker:DescribeModel",
      "sagemaker:InvokeEndpoint",
      "sagemaker:UpdateEndpoint",
      "sagemaker:UpdateEndpointWeightsAndCapacities",
    ]
    resources = [
      for kind in ["endpoint", "endpoint-config", "model"] :
      "arn:${local.partition}:sagemaker:${local.region}:${local.account_id}:${kind}/${var.endpoint_name_prefix}-*"
    ]
  }

  # Of its own making only, by the name; the bootstrap pair is Terraform's.
  statement {
    sid     = "CleanUp"
    actions = ["sagemaker:DeleteEndpointConfig", "sagemaker:DeleteModel"]
    resources = [
      for kind in ["endpoint-config", "model"] : join("", [
        "arn:${local.partition}:sagemaker:${local.region}:${local.account_id}:${kind}/",
        "${var.endpoint_name_prefix}-*-v*-????????-????????",
      ])
    ]
  }

  statement {
    sid = "LookAround"
    actions = [
      "application-autoscaling:DescribeScalableTargets",
      "sagemaker:ListEndpointConfigs",
      "sagemaker:ListModels",
    ]
    resources = ["*"] # these actions know no resources
  }

  # Whoever makes an endpoint with a key lets SageMaker use the key for it.
  statement {
    sid       = "LetSageMakerUseKey"
    actions   = ["kms:CreateGrant"]
    resources = [var.kms_key_arn]

    condition {
      test     = "Bool"
      variable = "kms:GrantIsForAWSResource"
      values   = ["true"]
    }

    condition {
      test     = "StringEquals"
      variable = "kms:ViaService"
      values   = ["sagemaker.${local.region}.amazonaws.com"]
    }
  }

  # SageMaker rolls back by alarms only for a caller who may see them.
  statement {
    sid       = "WatchAlarms"
    actions   = ["cloudwatch:DescribeAlarms"]
    resources = ["arn:${local.partition}:cloudwatch:${local.region}:${local.account_id}:alarm:*"]
  }

  statement {
    sid       = "LetModelsRunAsServingRole"
    actions   = ["iam:PassRole"]
    resources = [var.serving_role_arn]

    condition {
      test     = "StringEquals"
      variable = "iam:PassedToService"
      values   = ["sagemaker.amazonaws.com"]
    }
  }
}

# After the autoscaler's own documentation (cloudprovider/aws), but for the groups of this cluster only.
data "aws_iam_policy_document" "cluster_autoscaler" {
  statement {
    sid = "LookAround"
    actions = [
      "autoscaling:DescribeAutoScalingGroups",
      "autoscaling:DescribeAutoScalingInstances",
      "autoscaling:DescribeLaunchConfigurations",
      "autoscaling:DescribeScalingActivities",
      "autoscaling:DescribeTags",
      "ec2:DescribeImages",
      "ec2:DescribeInstanceTypes",
      "ec2:DescribeLaunchTemplateVersions",
      "ec2:GetInstanceTypesFromInstanceRequirements",
    ]
    # Neither service knows a narrower resource for these.
    resources = ["*"]
  }

  statement {
    sid       = "ReadNodeGroups"
    actions   = ["eks:DescribeNodegroup"]
    resources = ["arn:${local.partition}:eks:${local.region}:${local.account_id}:nodegroup/${var.name}/*/*"]
  }

  statement {
    sid     = "Scale"
    actions = ["autoscaling:SetDesiredCapacity", "autoscaling:TerminateInstanceInAutoScalingGroup"]
    # EKS calls the group of a node group `eks-<node group>-<id>`.
    resources = [join(":", [
      "arn", local.partition, "autoscaling", local.region, local.account_id,
      "autoScalingGroup", "*", "autoScalingGroupName/eks-${var.name}-*",
    ])]

    condition {
      test     = "StringEquals"
      variable = "aws:ResourceTag/k8s.io/cluster-autoscaler/${var.name}"
      values   = ["owned"]
    }
  }
}
