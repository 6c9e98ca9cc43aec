# What CI may do with what is kept: buckets, keys, queues, topics, logs, databases. See ci_policies.tf.
data "aws_iam_policy_document" "ci_data" {
  statement {
    sid = "Buckets"
    actions = [
      "s3:CreateBucket",
      "s3:DeleteBucket",
      "s3:DeleteBucketPolicy",
      "s3:GetAccelerateConfiguration",
      "s3:GetBucket*",
      "s3:GetEncryptionConfiguration",
      "s3:GetLifecycleConfiguration",
      "s3:GetReplicationConfiguration",
      "s3:ListBucket",
      "s3:ListBucketVersions",
      "s3:PutBucketLogging",
      "s3:PutBucketNotification",
      "s3:PutBucketOwnershipControls",
      "s3:PutBucketPolicy",
      "s3:PutBucketPublicAccessBlock",
      "s3:PutBucketTagging",
      "s3:PutBucketVersioning",
      "s3:PutEncryptionConfiguration",
      "s3:PutLifecycleConfiguration",
    ]
    resources = ["arn:${local.partition}:s3:::${local.name}-*-${local.bucket_suffix}"]
  }

  # The DAG bundle, its settings and Airflow's wheels, which are uploaded in parts; and a bucket is emptied before it goes.
  statement {
    sid = "Objects"
    actions = [
      "s3:AbortMultipartUpload",
      "s3:DeleteObject",
      "s3:DeleteObjectVersion",
      "s3:GetObject",
      "s3:GetObjectTagging",
      "s3:GetObjectVersion",
      "s3:PutObject",
      "s3:PutObjectTagging",
    ]
    resources = ["arn:${local.partition}:s3:::${local.name}-*-${local.bucket_suffix}/*"]
  }

  # The names above match the state bucket too. What may be done there is in `release`.
  statement {
    sid    = "NotTheStateBucket"
    effect = "Deny"
    actions = [
      "s3:DeleteBucket",
      "s3:DeleteBucketPolicy",
      "s3:PutBucket*",
      "s3:PutEncryptionConfiguration",
      "s3:PutLifecycleConfiguration",
    ]
    resources = [aws_s3_bucket.state.arn]
  }

  statement {
    sid       = "NotTheBootstrapState"
    effect    = "Deny"
    actions   = ["s3:DeleteObject", "s3:GetObject", "s3:GetObjectVersion", "s3:PutObject"]
    resources = ["${aws_s3_bucket.state.arn}/bootstrap/*"]
  }

  statement {
    sid       = "StatesAreKept"
    effect    = "Deny"
    actions   = ["s3:DeleteObject", "s3:DeleteObjectVersion"]
    resources = ["${aws_s3_bucket.state.arn}/*.tfstate"]
  }

  # A key has no name when it is made.
  statement {
    sid       = "MakeKeys"
    actions   = ["kms:CreateKey", "kms:TagResource"]
    resources = ["*"]

    condition {
      test     = "StringEquals"
      variable = "aws:RequestTag/Project"
      values   = [local.name]
    }
  }

  statement {
    sid = "OurKeys"
    actions = [
      "kms:CreateGrant",
      "kms:Decrypt",
      "kms:DescribeKey",
      "kms:EnableKeyRotation",
      "kms:Encrypt",
      "kms:GenerateDataKey",
      "kms:GetKeyPolicy",
      "kms:GetKeyRotationStatus",
      "kms:ListResourceTags",
      "kms:PutKeyPolicy",
      "kms:ScheduleKeyDeletion",
      "kms:UntagResource",
      "kms:UpdateKeyDescription",
    ]
    resources = ["arn:${local.partition}:kms:${local.here}:key/*"]

    condition {
      test     = "StringEquals"
      variable = "aws:ResourceTag/Project"
      values   = [local.name]
    }
  }

  # AWS asks for the right on both, the alias and the key it is to name.
  statement {
    sid     = "KeyAliases"
    actions = ["kms:CreateAlias", "kms:DeleteAlias", "kms:UpdateAlias"]
    resources = [
      "arn:${local.partition}:kms:${local.here}:alias/${local.name}-*",
      "arn:${local.partition}:kms:${local.here}:key/*",
    ]
  }

  statement {
    sid    = "NotTheStateKey"
    effect = "Deny"
    actions = [
      "kms:CreateGrant",
      "kms:PutKeyPolicy",
      "kms:ScheduleKeyDeletion",
    ]
    resources = [aws_kms_key.this.arn]
  }

  statement {
    sid = "QueuesAndTopics"
    actions = [
      "sns:CreateTopic",
      "sns:DeleteTopic",
      "sns:GetTopicAttributes",
      "sns:ListSubscriptionsByTopic",
      "sns:ListTagsForResource",
      "sns:SetTopicAttributes",
      "sns:Subscribe",
      "sns:TagResource",
      "sns:UntagResource",
      "sqs:CreateQueue",
      "sqs:DeleteQueue",
      "sqs:GetQueueAttributes",
      "sqs:GetQueueUrl",
      "sqs:ListQueueTags",
      "sqs:SetQueueAttributes",
      "sqs:TagQueue",
      "sqs:UntagQueue",
    ]
    resources = [
      "arn:${local.partition}:sns:${local.here}:${local.name}-*",
      "arn:${local.partition}:sqs:${local.here}:${local.name}-*",
    ]
  }

  statement {
    sid = "LogGroups"
    actions = [
      "logs:AssociateKmsKey",
      "logs:CreateLogGroup",
      "logs:DeleteLogGroup",
      "logs:DeleteMetricFilter",
      "logs:DisassociateKmsKey",
      "logs:DescribeMetricFilters",
      "logs:ListTagsForResource",
      "logs:PutMetricFilter",
      "logs:PutRetentionPolicy",
      "logs:TagResource",
      "logs:UntagResource",
    ]
    # Services put something of their own before the name. Just any beginning would make it another platform's too.
    resources = flatten([for group in ["${local.name}-", "/*/${local.name}-", "airflow-${local.name}-"] : [
      "arn:${local.partition}:logs:${local.here}:log-group:${group}*",
      "arn:${local.partition}:logs:${local.here}:log-group:${group}*:*",
    ]])
  }

  statement {
    sid = "Databases"
    actions = [
      "rds:AddTagsToResource",
      "rds:CopyDBSnapshot",
      "rds:CreateDBInstance",
      "rds:CreateDBParameterGroup",
      "rds:CreateDBSnapshot",
      "rds:CreateDBSubnetGroup",
      "rds:DeleteDBInstance",
      "rds:DeleteDBParameterGroup",
      "rds:DeleteDBSnapshot",
      "rds:DeleteDBSubnetGroup",
      "rds:DescribeDBInstances",
      "rds:DescribeDBParameterGroups",
      "rds:DescribeDBParameters",
      "rds:DescribeDBSnapshots",
      "rds:DescribeDBSubnetGroups",
      "rds:ListTagsForResource",
      "rds:ModifyDBInstance",
      "rds:ModifyDBParameterGroup",
      "rds:ModifyDBSubnetGroup",
      "rds:RebootDBInstance",
      "rds:RemoveTagsFromResource",
      "rds:ResetDBParameterGroup",
      "rds:RestoreDBInstanceFromDBSnapshot",
      "rds:StartDBInstance",
      "rds:StopDBInstance",
    ]
    resources = [for kind in ["db:${local.name}-", "og:default:", "pg:${local.name}-", "snapshot:${local.name}-", "subgrp:${local.name}-"] : (
      "arn:${local.partition}:rds:${local.here}:${kind}*"
    )]
  }

  # RDS makes and rotates the master secret itself, on behalf of who makes the instance. Its value is not readable.
  statement {
    sid       = "DatabaseSecret"
    actions   = ["secretsmanager:CreateSecret", "secretsmanager:DescribeSecret", "secretsmanager:TagResource"]
    resources = ["arn:${local.partition}:secretsmanager:${local.here}:secret:rds!*"]
  }

  # AWS knows no resource for these.
  statement {
    sid = "FindData"
    actions = [
      "kms:ListAliases",
      "logs:DescribeLogGroups",
      "rds:DescribeDBEngineVersions",
      "sns:GetSubscriptionAttributes",
      "sns:Unsubscribe",
    ]
    resources = ["*"]
  }
}
