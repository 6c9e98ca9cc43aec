# Made before the cluster: EKS would make it itself, unencrypted and with logs kept for ever.
resource "aws_cloudwatch_log_group" "control_plane" {
  name              = "/aws/eks/${var.name}/cluster"
  retention_in_days = var.log_retention_days
  kms_key_id        = var.kms_key_arn
}

# EKS makes and owns a security group for nodes and control plane. This one is beside it, for who else may reach
# the Kubernetes API: rules added to EKS's own group would be in nobody's sight.
resource "aws_security_group" "control_plane" {
  name_prefix = "${var.name}-kubernetes-api-"
  description = "Who besides the nodes may reach the Kubernetes API of ${var.name}."
  vpc_id      = var.vpc_id

  tags = { Name = "${var.name}-kubernetes-api" }

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_vpc_security_group_ingress_rule" "control_plane" {
  for_each = var.client_security_group_ids

  security_group_id            = aws_security_group.control_plane.id
  description                  = "Kubernetes API for ${each.key}."
  referenced_security_group_id = each.value
  ip_protocol                  = "tcp"
  from_port                    = 443
  to_port                      = 443
}

resource "aws_vpc_security_group_ingress_rule" "control_plane_client_cidrs" {
  for_each = toset(var.client_cidrs)

  security_group_id = aws_security_group.control_plane.id
  description       = "Kubernetes API for private clients."
  cidr_ipv4         = each.key
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
}

resource "aws_eks_cluster" "this" {
  name                      = var.name
  role_arn                  = aws_iam_role.cluster.arn
  version                   = var.kubernetes_version
  enabled_cluster_log_types = ["api", "audit", "authenticator", "controllerManager", "scheduler"]

  # All add-ons are EKS add-ons (addons.tf); self-managed ones would be in their way.
  bootstrap_self_managed_addons = false

  access_config {
    authentication_mode = "API"
    # EKS would make the creator an administrator in nobody's sight, whom nobody could name later: an entry exists once
    # (409). Who administers is in access.tf, all of it.
    bootstrap_cluster_creator_admin_permissions = false
  }

  encryption_config {
    resources = ["secrets"]

    provider {
      key_arn = var.kms_key_arn
    }
  }

  upgrade_policy {
    support_type = var.upgrade_support_type
  }

  vpc_config {
    subnet_ids              = var.private_subnet_ids
    security_group_ids      = [aws_security_group.control_plane.id]
    endpoint_private_access = true
    endpoint_public_access  = length(var.endpoint_public_access_cidrs) > 0
    public_access_cidrs     = length(var.endpoint_public_access_cidrs) > 0 ? var.endpoint_public_access_cidrs : null
  }

  lifecycle {
    # A creator's permissions count at creation only, and to change them replaces the cluster: older ones were made with
    # true. And the control plane stays in the zones it was made in: EKS refuses subnets of any other set of zones.
    ignore_changes = [access_config[0].bootstrap_cluster_creator_admin_permissions, vpc_config[0].subnet_ids]
  }

  depends_on = [
    aws_cloudwatch_log_group.control_plane,
    aws_iam_role_policy.cluster_encryption,
    aws_iam_role_policy_attachment.cluster,
  ]
}

data "aws_iam_policy_document" "cluster_assume" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["eks.amazonaws.com"]
    }

    condition {
      test     = "ArnLike"
      variable = "aws:SourceArn"
      values   = [local.cluster_arn]
    }
  }
}

resource "aws_iam_role" "cluster" {
  name                 = "${local.global_name}-cluster"
  description          = "Control plane of the EKS cluster ${var.name}."
  assume_role_policy   = data.aws_iam_policy_document.cluster_assume.json
  permissions_boundary = var.permissions_boundary_arn
}

resource "aws_iam_role_policy_attachment" "cluster" {
  role       = aws_iam_role.cluster.name
  policy_arn = "arn:${local.partition}:iam::aws:policy/AmazonEKSClusterPolicy"
}

data "aws_iam_policy_document" "cluster_encryption" {
  statement {
    sid       = "EncryptSecrets"
    actions   = ["kms:Decrypt", "kms:DescribeKey", "kms:Encrypt", "kms:ListGrants"]
    resources = [var.kms_key_arn]
  }
}

resource "aws_iam_role_policy" "cluster_encryption" {
  name   = "secrets-encryption"
  role   = aws_iam_role.cluster.name
  policy = data.aws_iam_policy_document.cluster_encryption.json
}
