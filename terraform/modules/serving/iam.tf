locals {
  # <account>.dkr.ecr.<region>.<suffix>/<repository>[@digest|:tag]
  image = regex(
    "^(?P<account>[0-9]{12})\\.dkr\\.ecr\\.(?P<region>[a-z0-9-]+)\\.[a-z.]+/(?P<repository>[a-z0-9._/-]+)", var.image
  )
  ec2_arn        = "arn:${local.partition}:ec2:${local.region}:${local.account_id}"
  repository_arn = "arn:${local.partition}:ecr:${local.image.region}:${local.image.account}:repository/${local.image.repository}"
}

data "aws_iam_policy_document" "trust" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["sagemaker.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [local.account_id]
    }
  }
}

# One role for the bootstrap model and for every model that the deployer makes.
resource "aws_iam_role" "execution" {
  name               = "${local.global_name}-serving"
  description        = "SageMaker endpoints of ${var.name}: read models, pull the serving image, write logs and captured data."
  assume_role_policy = data.aws_iam_policy_document.trust.json

  permissions_boundary = var.permissions_boundary_arn
}

data "aws_iam_policy_document" "execution" {
  statement {
    sid       = "ReadModels"
    actions   = ["s3:GetObject"]
    resources = ["${var.artifacts_bucket.arn}/models/*"]
  }

  statement {
    sid       = "ListModels"
    actions   = ["s3:ListBucket"]
    resources = [var.artifacts_bucket.arn]

    condition {
      test     = "StringLike"
      variable = "s3:prefix"
      values   = ["models/*"]
    }
  }

  statement {
    sid       = "WriteCapturedData"
    actions   = ["s3:AbortMultipartUpload", "s3:PutObject"]
    resources = ["${var.data_bucket.arn}/capture/${var.name}-*"]
  }

  statement {
    sid       = "UseKeyThroughS3"
    actions   = ["kms:Decrypt", "kms:GenerateDataKey"]
    resources = [var.kms_key_arn]

    condition {
      test     = "StringEquals"
      variable = "kms:ViaService"
      values   = ["s3.${local.region}.${data.aws_partition.current.dns_suffix}"]
    }
  }

  statement {
    sid       = "PullServingImage"
    actions   = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
    resources = [local.repository_arn]
  }

  statement {
    sid       = "LogInToRegistry"
    actions   = ["ecr:GetAuthorizationToken"]
    resources = ["*"] # the action knows no resources
  }

  statement {
    sid     = "WriteLogs"
    actions = ["logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"]
    resources = [
      "arn:${local.partition}:logs:${local.region}:${local.account_id}:log-group:/aws/sagemaker/Endpoints/${var.name}-*",
    ]
  }

  statement {
    sid       = "WriteMetrics"
    actions   = ["cloudwatch:PutMetricData"]
    resources = ["*"] # the action knows no resources, only namespaces

    condition {
      test     = "StringLike"
      variable = "cloudwatch:namespace"
      values   = ["AWS/SageMaker", "/aws/sagemaker/*"]
    }
  }

  dynamic "statement" {
    for_each = var.vpc_config[*]

    content {
      sid     = "AttachToVpc"
      actions = ["ec2:CreateNetworkInterface"]
      resources = concat(
        ["${local.ec2_arn}:network-interface/*"],
        ["${local.ec2_arn}:security-group/${aws_security_group.this[0].id}"],
        [for id in statement.value.subnet_ids : "${local.ec2_arn}:subnet/${id}"],
      )
    }
  }

  dynamic "statement" {
    for_each = var.vpc_config[*]

    content {
      sid = "ManageNetworkInterfaces"
      actions = [
        "ec2:CreateNetworkInterfacePermission",
        "ec2:DeleteNetworkInterface",
        "ec2:DeleteNetworkInterfacePermission",
      ]
      resources = ["${local.ec2_arn}:network-interface/*"]

      condition {
        test     = "ArnEquals"
        variable = "ec2:Vpc"
        values   = ["${local.ec2_arn}:vpc/${statement.value.vpc_id}"]
      }
    }
  }

  dynamic "statement" {
    for_each = var.vpc_config[*]

    content {
      sid = "LookAtVpc"
      actions = [
        "ec2:DescribeDhcpOptions",
        "ec2:DescribeNetworkInterfaces",
        "ec2:DescribeSecurityGroups",
        "ec2:DescribeSubnets",
        "ec2:DescribeVpcs",
      ]
      resources = ["*"] # these actions know no resources
    }
  }
}

resource "aws_iam_role_policy" "execution" {
  name   = "serving"
  role   = aws_iam_role.execution.id
  policy = data.aws_iam_policy_document.execution.json
}
