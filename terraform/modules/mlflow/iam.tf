data "aws_iam_policy_document" "trust" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["ecs-tasks.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [local.account_id]
    }

    condition {
      test     = "ArnLike"
      variable = "aws:SourceArn"
      values   = ["arn:${local.partition}:ecs:${local.region}:${local.account_id}:*"]
    }
  }
}

# Execution: what ECS does to start a task.

locals {
  # <account>.dkr.ecr.<region>.<suffix>/<repository>, without tag and digest; variables.tf checks the form.
  image          = regex("^([0-9]{12})\\.dkr\\.ecr\\.([a-z0-9-]+)\\.[a-z.]+/([a-z0-9._/-]+)[:@]", var.image)
  repository_arn = "arn:${local.partition}:ecr:${local.image[1]}:${local.image[0]}:repository/${local.image[2]}"
}

data "aws_iam_policy_document" "execution" {
  # The token is for the whole registry; no resource can be named.
  statement {
    sid       = "Registry"
    actions   = ["ecr:GetAuthorizationToken"]
    resources = ["*"]
  }

  statement {
    sid       = "Image"
    actions   = ["ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"]
    resources = [local.repository_arn]
  }

  statement {
    sid       = "Logs"
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = ["${aws_cloudwatch_log_group.service.arn}:*"]
  }
}

resource "aws_iam_role" "execution" {
  name                 = "${local.global_name}-execution"
  description          = "Starts the tasks of ${local.name}: image and logs"
  assume_role_policy   = data.aws_iam_policy_document.trust.json
  permissions_boundary = var.permissions_boundary_arn
}

resource "aws_iam_role_policy" "execution" {
  name   = "execution"
  role   = aws_iam_role.execution.id
  policy = data.aws_iam_policy_document.execution.json
}

locals {
  # By way of a local: a document that names the database itself is not read while any change of it is planned, and each
  # would show the rights of these roles as unknown.
  database_secret_arn = aws_db_instance.this.master_user_secret[0].secret_arn
}

# The database's secret: the server and the migration read it themselves, as its password changes while they run.
data "aws_iam_policy_document" "secret" {
  statement {
    sid       = "DatabaseSecret"
    actions   = ["secretsmanager:GetSecretValue"]
    resources = [local.database_secret_arn]
  }

  statement {
    sid       = "SecretKey"
    actions   = ["kms:Decrypt"]
    resources = [var.kms_key_arn]

    condition {
      test     = "StringEquals"
      variable = "kms:ViaService"
      values   = ["secretsmanager.${local.region}.amazonaws.com"]
    }
  }
}

# The server: its artifacts, on behalf of all clients, and nothing else in the bucket.
data "aws_iam_policy_document" "artifacts" {
  statement {
    sid       = "ListArtifacts"
    actions   = ["s3:ListBucket"]
    resources = [var.artifacts_bucket.arn]

    condition {
      test     = "StringLike"
      variable = "s3:prefix"
      values   = [local.artifacts_prefix, "${local.artifacts_prefix}/*"]
    }
  }

  statement {
    sid = "Artifacts"
    actions = [
      "s3:AbortMultipartUpload",
      "s3:DeleteObject",
      "s3:GetObject",
      "s3:ListMultipartUploadParts",
      "s3:PutObject",
    ]
    resources = ["${var.artifacts_bucket.arn}/${local.artifacts_prefix}/*"]
  }

  statement {
    sid       = "ArtifactsKey"
    actions   = ["kms:Decrypt", "kms:GenerateDataKey"]
    resources = [var.kms_key_arn]

    condition {
      test     = "StringEquals"
      variable = "kms:ViaService"
      values   = ["s3.${local.region}.amazonaws.com"]
    }
  }
}

resource "aws_iam_role" "task" {
  name                 = "${local.global_name}-task"
  description          = "The MLflow server of ${var.name}: artifacts and the database's secret"
  assume_role_policy   = data.aws_iam_policy_document.trust.json
  permissions_boundary = var.permissions_boundary_arn
}

resource "aws_iam_role_policy" "task_artifacts" {
  name   = "artifacts"
  role   = aws_iam_role.task.id
  policy = data.aws_iam_policy_document.artifacts.json
}

resource "aws_iam_role_policy" "task_secret" {
  name   = "secret"
  role   = aws_iam_role.task.id
  policy = data.aws_iam_policy_document.secret.json
}

# The migration has the database and no artifacts.
resource "aws_iam_role" "migration" {
  name                 = "${local.global_name}-migration"
  description          = "The migration of the MLflow database of ${var.name}: the database's secret"
  assume_role_policy   = data.aws_iam_policy_document.trust.json
  permissions_boundary = var.permissions_boundary_arn
}

resource "aws_iam_role_policy" "migration_secret" {
  name   = "secret"
  role   = aws_iam_role.migration.id
  policy = data.aws_iam_policy_document.secret.json
}
