locals {
  # Add-ons that use AWS: their service account, and the policy AWS keeps for them. AWS's own, because what an add-on
  # calls changes with its versions.
  addon_identities = {
    amazon-cloudwatch-observability = {
      namespace       = "amazon-cloudwatch"
      service_account = "cloudwatch-agent"
      managed_policy  = "CloudWatchAgentServerPolicy"
    }
    aws-ebs-csi-driver = {
      namespace       = "kube-system"
      service_account = "ebs-csi-controller-sa"
      managed_policy  = "service-role/AmazonEBSCSIDriverPolicy"
    }
    vpc-cni = {
      namespace       = "kube-system"
      service_account = "aws-node"
      managed_policy  = "AmazonEKS_CNI_Policy"
    }
  }

  container_insights_log_groups = ["application", "dataplane", "host", "performance"]
}

# Without network and identities no node becomes ready, so these are there when the first one comes.
resource "aws_eks_addon" "before_nodes" {
  for_each = local.addons_before_nodes

  cluster_name                = aws_eks_cluster.this.name
  addon_name                  = each.key
  addon_version               = lookup(var.addon_versions, each.key, null)
  configuration_values        = length(each.value) > 0 ? jsonencode(each.value) : null
  resolve_conflicts_on_create = "OVERWRITE"
  resolve_conflicts_on_update = "OVERWRITE"

  # Pods get credentials only if the association is there when they start.
  depends_on = [aws_eks_pod_identity_association.addon]
}

# These have pods that need a node: without one they never become active.
resource "aws_eks_addon" "after_nodes" {
  for_each = local.addons_after_nodes

  cluster_name                = aws_eks_cluster.this.name
  addon_name                  = each.key
  addon_version               = lookup(var.addon_versions, each.key, null)
  configuration_values        = jsonencode(each.value)
  resolve_conflicts_on_create = "OVERWRITE"
  resolve_conflicts_on_update = "OVERWRITE"

  depends_on = [
    aws_cloudwatch_log_group.container_insights,
    aws_eks_node_group.this,
    aws_eks_pod_identity_association.addon,
  ]
}

# Made before the agent that writes to them, for the same reason as the control plane's.
resource "aws_cloudwatch_log_group" "container_insights" {
  for_each = toset(local.container_insights_log_groups)

  name              = "/aws/containerinsights/${var.name}/${each.value}"
  retention_in_days = var.log_retention_days
  kms_key_id        = var.kms_key_arn
}

resource "aws_iam_role" "addon" {
  for_each = local.addon_identities

  name                 = "${local.global_name}-${trimprefix(each.key, "amazon-")}"
  description          = "EKS add-on ${each.key} of ${var.name}."
  assume_role_policy   = data.aws_iam_policy_document.pod_assume[each.key].json
  permissions_boundary = var.permissions_boundary_arn
}

resource "aws_iam_role_policy_attachment" "addon" {
  for_each = local.addon_identities

  role       = aws_iam_role.addon[each.key].name
  policy_arn = "arn:${local.partition}:iam::aws:policy/${each.value.managed_policy}"
}

resource "aws_eks_pod_identity_association" "addon" {
  for_each = local.addon_identities

  cluster_name    = aws_eks_cluster.this.name
  namespace       = each.value.namespace
  service_account = each.value.service_account
  role_arn        = aws_iam_role.addon[each.key].arn

  depends_on = [
    aws_iam_role_policy.cloudwatch,
    aws_iam_role_policy.ebs_csi,
    aws_iam_role_policy_attachment.addon,
  ]
}

# For volumes that are encrypted with the environment's key.
data "aws_iam_policy_document" "ebs_csi" {
  statement {
    sid       = "EncryptVolumes"
    actions   = ["kms:Decrypt", "kms:DescribeKey", "kms:GenerateDataKeyWithoutPlaintext"]
    resources = [var.kms_key_arn]

    condition {
      test     = "StringEquals"
      variable = "kms:ViaService"
      values   = ["ec2.${local.region}.amazonaws.com"]
    }
  }

  statement {
    sid       = "LendKeyToEbs"
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
      values   = ["ec2.${local.region}.amazonaws.com"]
    }
  }
}

resource "aws_iam_role_policy" "ebs_csi" {
  name   = "volume-encryption"
  role   = aws_iam_role.addon["aws-ebs-csi-driver"].name
  policy = data.aws_iam_policy_document.ebs_csi.json
}

# AWS's policy lets the agent make log groups, which would then have neither key nor retention, and come back after
# `destroy`.
data "aws_iam_policy_document" "cloudwatch" {
  statement {
    sid       = "NoLogGroupsBesidesTerraforms"
    effect    = "Deny"
    actions   = ["logs:CreateLogGroup", "logs:PutRetentionPolicy"]
    resources = ["*"]
  }
}

resource "aws_iam_role_policy" "cloudwatch" {
  name   = "no-own-log-groups"
  role   = aws_iam_role.addon["amazon-cloudwatch-observability"].name
  policy = data.aws_iam_policy_document.cloudwatch.json
}
