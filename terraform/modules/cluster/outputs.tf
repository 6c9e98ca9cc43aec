output "autoscaling_group_names" {
  description = "Names of the Auto Scaling groups behind the node groups, by group."
  value       = { for key, group in aws_eks_node_group.this : key => group.resources[0].autoscaling_groups[0].name }
}

output "cluster_arn" {
  description = "ARN of the cluster."
  value       = aws_eks_cluster.this.arn
}

output "cluster_certificate_authority" {
  description = "Certificate of the Kubernetes API's authority, base64-encoded as a kubeconfig wants it."
  value       = aws_eks_cluster.this.certificate_authority[0].data
}

output "cluster_endpoint" {
  description = "Address of the Kubernetes API."
  value       = aws_eks_cluster.this.endpoint
}

output "cluster_name" {
  description = "Name of the cluster."
  value       = aws_eks_cluster.this.name
}

output "cluster_security_group_id" {
  description = "Security group that EKS made for the control plane, the nodes and their pods."
  value       = aws_eks_cluster.this.vpc_config[0].cluster_security_group_id
}

output "node_group_names" {
  description = "Names of the node groups by group: system, cpu and, where there are some, gpu and gpu-fallback."
  value       = { for key, group in aws_eks_node_group.this : key => group.node_group_name }
}

output "node_role_arn" {
  description = "ARN of the nodes' role."
  value       = aws_iam_role.node.arn
}

output "service_account_role_arns" {
  description = "ARNs of the roles by service account of config/kubernetes."
  value       = { for account, role in aws_iam_role.workload : account => role.arn }
}
