# What CI may ask of the whole account before an apply: how much there may be of what, and how much there is. Nothing
# here changes anything or reads data. What `network` lets it look at in EC2 belongs to it too. See ci_policies.tf.
data "aws_iam_policy_document" "ci_preflight" {
  # AWS counts all that an account has, whoever made it, so these cannot be limited to our names.
  statement {
    sid = "WhatThereIs"
    actions = [
      "airflow:ListEnvironments",
      "eks:ListClusters",
      "rds:DescribeDBInstances",
      "sagemaker:DescribeEndpoint",
      "sagemaker:DescribeEndpointConfig",
      "sagemaker:ListEndpoints",
      "servicequotas:GetAWSDefaultServiceQuota",
      "servicequotas:GetServiceQuota",
      "servicequotas:ListAWSDefaultServiceQuotas",
      "servicequotas:ListServiceQuotas",
    ]
    resources = ["*"]

    condition {
      test     = "StringEquals"
      variable = "aws:RequestedRegion"
      values   = [var.region]
    }
  }

  # IAM has no region, and lists roles by path only.
  statement {
    sid       = "WhichServiceLinkedRoles"
    actions   = ["iam:ListRoles"]
    resources = ["*"]
  }

  statement {
    sid       = "WhetherItMayMakeThem"
    actions   = ["iam:GetRole", "iam:SimulatePrincipalPolicy"]
    resources = [local.ci_role_arn]
  }
}
