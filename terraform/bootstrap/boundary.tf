# The ceiling of every role that CI makes. It grants nothing by itself; a role's rights are what its own policies and
# this both allow. So a change to a policy, however wrong, cannot turn a role into an administrator.
data "aws_iam_policy_document" "boundary" {
  statement {
    sid = "ServicesOfThePlatform"
    actions = [
      "airflow:*",
      "application-autoscaling:*",
      "autoscaling:*",
      "cloudwatch:*",
      "ec2:*",
      "ec2messages:*",
      "ecr:*",
      "ecs:*",
      "eks-auth:*",
      "eks:*",
      "elasticloadbalancing:Describe*",
      "emr-serverless:*",
      "kms:*",
      "logs:*",
      "rds-db:connect",
      "rds:*",
      "s3:*",
      "sagemaker:*",
      "secretsmanager:*",
      "sns:*",
      "sqs:*",
      "ssm:*",
      "ssmmessages:*",
      "sts:GetCallerIdentity",
      "xray:*",
    ]
    resources = ["*"]
  }

  statement {
    sid       = "HandOnOwnRoles"
    actions   = ["iam:GetRole", "iam:PassRole"]
    resources = ["arn:${local.partition}:iam::${local.account_id}:role/${local.global_names}-*"]
  }

  statement {
    sid       = "NotTheCiRole"
    effect    = "Deny"
    actions   = ["iam:PassRole"]
    resources = [local.ci_role_arn]
  }

  statement {
    sid    = "NotTheFoundations"
    effect = "Deny"
    actions = [
      "ec2:CreateVpcPeeringConnection",
      "ec2:ModifyImageAttribute",
      "ec2:ModifySnapshotAttribute",
      "ecr:DeleteRepository",
      "ecr:SetRepositoryPolicy",
      "kms:DisableKey",
      "kms:PutKeyPolicy",
      "kms:ScheduleKeyDeletion",
      "rds:ModifyDBSnapshotAttribute",
      "s3:DeleteBucket",
      "s3:PutBucketPolicy",
      "s3:PutBucketPublicAccessBlock",
    ]
    resources = ["*"]
  }

  # Grants to AWS services (disks of nodes, copies of snapshots) are how KMS works with them; others give a key away.
  statement {
    sid       = "NoGrantsToOthers"
    effect    = "Deny"
    actions   = ["kms:CreateGrant"]
    resources = ["*"]

    condition {
      test     = "BoolIfExists"
      variable = "kms:GrantIsForAWSResource"
      values   = ["false"]
    }
  }

  statement {
    sid       = "NotTheStates"
    effect    = "Deny"
    actions   = ["s3:*"]
    resources = ["arn:${local.partition}:s3:::${local.state_bucket}", "arn:${local.partition}:s3:::${local.state_bucket}/*"]
  }
}

resource "aws_iam_policy" "boundary" {
  name        = "${module.names.global_name}-boundary"
  description = "Ceiling of every role in the environments of ${local.name}"
  policy      = data.aws_iam_policy_document.boundary.json
}
