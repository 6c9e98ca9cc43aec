# Who may use the Kubernetes API. There is no aws-auth ConfigMap: the authentication mode is API.

# What the group may do is said by the Roles in config/kubernetes; no EKS access policy gives it anything.
resource "aws_eks_access_entry" "airflow" {
  cluster_name      = aws_eks_cluster.this.name
  principal_arn     = var.airflow_role_arn
  type              = "STANDARD"
  kubernetes_groups = ["ml-platform:airflow"]
}

resource "aws_eks_access_entry" "admin" {
  for_each = toset(var.admin_role_arns)

  cluster_name  = aws_eks_cluster.this.name
  principal_arn = each.value
  type          = "STANDARD"
}

resource "aws_eks_access_policy_association" "admin" {
  for_each = toset(var.admin_role_arns)

  cluster_name  = aws_eks_cluster.this.name
  principal_arn = each.value
  policy_arn    = "arn:${local.partition}:eks::aws:cluster-access-policy/AmazonEKSClusterAdminPolicy"

  access_scope {
    type = "cluster"
  }

  # EKS refuses an association whose principal has no entry yet.
  depends_on = [aws_eks_access_entry.admin]
}
