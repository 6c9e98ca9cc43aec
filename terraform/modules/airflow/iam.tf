# The execution role: MWAA itself runs with it, and so do the tasks of every DAG. It depends on nothing but names, so
# that the cluster's access entry can name it; what it may do depends on the rest.
#
# `aws eks get-token` needs no right at all: the token is a signed sts:GetCallerIdentity, which everyone may call.

data "aws_iam_policy_document" "trust" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["airflow-env.amazonaws.com", "airflow.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [local.account_id]
    }

    condition {
      test     = "ArnLike"
      variable = "aws:SourceArn"
      values   = [local.environment_arn]
    }
  }
}

resource "aws_iam_role" "execution" {
  name                 = "${local.global_name}-airflow"
  description          = "Managed Airflow ${var.name} and the tasks of its DAGs"
  assume_role_policy   = data.aws_iam_policy_document.trust.json
  permissions_boundary = var.permissions_boundary_arn
}

# What MWAA needs to run at all.
data "aws_iam_policy_document" "execution" {
  statement {
    sid       = "Metrics"
    actions   = ["airflow:PublishMetrics"]
    resources = [local.environment_arn]
  }

  # No resource can be named for this action.
  statement {
    sid       = "MetricData"
    actions   = ["cloudwatch:PutMetricData"]
    resources = ["*"]

    condition {
      test     = "StringEquals"
      variable = "cloudwatch:namespace"
      values   = ["AmazonMWAA"]
    }
  }

  statement {
    sid       = "DagBucket"
    actions   = ["s3:GetBucket*", "s3:ListBucket", "s3:ListBucketVersions"]
    resources = [var.dags_bucket.arn]
  }

  statement {
    sid       = "DagObjects"
    actions   = ["s3:GetObject", "s3:GetObjectVersion"]
    resources = ["${var.dags_bucket.arn}/*"]
  }

  # MWAA looks whether public access is blocked; the account's setting has no ARN.
  statement {
    sid       = "PublicAccessBlock"
    actions   = ["s3:GetAccountPublicAccessBlock"]
    resources = ["*"]
  }

  statement {
    sid = "Logs"
    actions = [
      "logs:CreateLogGroup",
      "logs:CreateLogStream",
      "logs:GetLogEvents",
      "logs:GetLogGroupFields",
      "logs:GetLogRecord",
      "logs:GetQueryResults",
      "logs:PutLogEvents",
    ]
    resources = ["arn:${local.partition}:logs:${local.region}:${local.account_id}:log-group:airflow-${var.name}-*"]
  }

  # Lists, so it cannot be limited to some groups.
  statement {
    sid       = "LogGroups"
    actions   = ["logs:DescribeLogGroups"]
    resources = ["*"]
  }

  # Airflow's task queue belongs to an account of AWS's.
  statement {
    sid = "TaskQueue"
    actions = [
      "sqs:ChangeMessageVisibility",
      "sqs:DeleteMessage",
      "sqs:GetQueueAttributes",
      "sqs:GetQueueUrl",
      "sqs:ReceiveMessage",
      "sqs:SendMessage",
    ]
    resources = ["arn:${local.partition}:sqs:${local.region}:*:airflow-celery-*"]
  }

  statement {
    sid       = "Key"
    actions   = ["kms:Decrypt", "kms:DescribeKey", "kms:Encrypt", "kms:GenerateDataKey*"]
    resources = [var.kms_key_arn]

    condition {
      test     = "StringEquals"
      variable = "kms:ViaService"
      values   = [for service in ["s3", "sns", "sqs"] : "${service}.${local.region}.amazonaws.com"]
    }
  }
}

resource "aws_iam_role_policy" "execution" {
  name   = "mwaa"
  role   = aws_iam_role.execution.id
  policy = data.aws_iam_policy_document.execution.json
}

# What the DAGs' own Python does (dags/mlplatform): it looks for landed files, moves them, keeps the documents of runs,
# and tells people. The heavy work is done by pods, with rights of their own; MLflow is reached over HTTP.
data "aws_iam_policy_document" "tasks" {
  # Without a condition on the prefix: that a missing object is answered 404 and not 403, which the DAGs rely on, takes
  # this right on a request that has no prefix.
  statement {
    sid       = "List"
    actions   = ["s3:ListBucket"]
    resources = [var.buckets.artifacts.arn, var.buckets.data.arn, var.buckets.landing.arn]
  }

  # Versions, because a run reads the version it saw first. Tags, because S3 copies them along.
  statement {
    sid = "TakeFromLanding"
    actions = [
      "s3:DeleteObject",
      "s3:GetObject",
      "s3:GetObjectTagging",
      "s3:GetObjectVersion",
      "s3:GetObjectVersionTagging",
    ]
    resources = ["${var.buckets.landing.arn}/*"]
  }

  # What really happened is for the step that monitors.
  statement {
    sid       = "LeaveLabelsAlone"
    effect    = "Deny"
    actions   = ["s3:DeleteObject", "s3:GetObject", "s3:GetObjectVersion"]
    resources = ["${var.buckets.landing.arn}/labels/*"]
  }

  # Accepted files, and refused ones with the reason beside them.
  statement {
    sid     = "PutAway"
    actions = ["s3:AbortMultipartUpload", "s3:PutObject", "s3:PutObjectTagging"]
    resources = [
      "${var.buckets.data.arn}/raw/*",
      "${var.buckets.landing.arn}/quarantine/*",
    ]
  }

  statement {
    sid       = "Accepted"
    actions   = ["s3:GetObject"]
    resources = ["${var.buckets.data.arn}/raw/*"]
  }

  statement {
    sid       = "Runs"
    actions   = ["s3:GetObject", "s3:PutObject"]
    resources = ["${var.buckets.data.arn}/runs/*"]
  }

  # The first answer to the question whether a model may go live holds: it is never written over, and never removed.
  statement {
    sid       = "FirstAnswerHolds"
    effect    = "Deny"
    actions   = ["s3:PutObject"]
    resources = ["${var.buckets.data.arn}/runs/*/approval/*"]

    condition {
      test     = "Null"
      variable = "s3:if-none-match"
      values   = ["true"]
    }
  }

  statement {
    sid       = "Deployments"
    actions   = ["s3:GetObject", "s3:PutObject"]
    resources = ["${var.buckets.data.arn}/deployments/*"]
  }

  # Only what an earlier attempt left is ever removed: a verdict that is out of date, notes of failed tasks.
  statement {
    sid     = "AnotherAttempt"
    actions = ["s3:DeleteObject"]
    resources = [
      "${var.buckets.data.arn}/deployments/*/error.json",
      "${var.buckets.data.arn}/deployments/_runs/*",
      "${var.buckets.data.arn}/runs/*/evaluate/result.json",
      "${var.buckets.data.arn}/runs/*/failures/*",
    ]
  }

  # What the step `monitor` shall look at, what it found, and when a retraining was last asked for.
  statement {
    sid       = "Monitoring"
    actions   = ["s3:GetObject", "s3:PutObject"]
    resources = ["${var.buckets.data.arn}/monitoring/*"]
  }

  # Nobody here may change or remove what was written: a put without If-None-Match is refused.
  statement {
    sid       = "ReadAuditLog"
    actions   = ["s3:GetObject"]
    resources = ["${var.buckets.artifacts.arn}/audit/*"]
  }

  statement {
    sid       = "AppendToAuditLog"
    actions   = ["s3:PutObject"]
    resources = ["${var.buckets.artifacts.arn}/audit/*"]

    condition {
      test     = "Null"
      variable = "s3:if-none-match"
      values   = ["false"]
    }
  }

  statement {
    sid       = "TellPeople"
    actions   = ["sns:Publish"]
    resources = [var.topic_arn]
  }
}

resource "aws_iam_role_policy" "tasks" {
  name   = "tasks"
  role   = aws_iam_role.execution.id
  policy = data.aws_iam_policy_document.tasks.json
}
