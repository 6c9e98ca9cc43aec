# Who may use the Kubernetes API. There is no aws-auth ConfigMap: the authentication mode is API.

# What the group may do is said by the Roles in config/kubernetes; no EKS access policy gives it anything.
resource "aws_eks_access_entry" "airflow" {
  cluster_name      = aws_eks_cluster.this.name
  principal_arn     = var.airflow_role_arn
  type              = "STANDARD"
  kubernetes_groups = ["ml-platform:airflow"]
}

data "aws_iam_session_context" "current" {
  arn = data.aws_caller_identity.current.arn
}

# Whoever makes the cluster administers it as long as nobody else is named, or nobody could apply config/kubernetes.
# Kept from the first apply on: the next person to apply does not take the first one's place.
resource "terraform_data" "creator" {
  input = data.aws_iam_session_context.current.issuer_arn # the role, not one session of it

  lifecycle {
    ignore_changes = [input]
  }
}

locals {
  admin_arns = toset(length(var.admin_role_arns) > 0 ? var.admin_role_arns : [terraform_data.creator.input])
}

resource "aws_eks_access_entry" "admin" {
  for_each = local.admin_arns

  cluster_name  = aws_eks_cluster.this.name
  principal_arn = each.value
  type          = "STANDARD"
}

resource "aws_eks_access_policy_association" "admin" {
  for_each = local.admin_arns

  cluster_name  = aws_eks_cluster.this.name
  principal_arn = each.value
  policy_arn    = "arn:${local.partition}:eks::aws:cluster-access-policy/AmazonEKSClusterAdminPolicy"

  access_scope {
    type = "cluster"
  }

  # EKS refuses an association whose principal has no entry yet.
  depends_on = [aws_eks_access_entry.admin]
}
