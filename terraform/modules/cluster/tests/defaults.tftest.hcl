mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  name                 = "ml-platform-test"
  vpc_id               = "vpc-0123456789abcdef0"
  private_subnet_ids   = ["subnet-0000000000000000a", "subnet-0000000000000000b"]
  kms_key_arn          = "arn:aws:kms:eu-central-1:123456789012:key/00000000-0000-0000-0000-000000000000"
  admin_role_arns      = ["arn:aws:iam::123456789012:role/admin"]
  airflow_role_arn     = "arn:aws:iam::123456789012:role/ml-platform-test-airflow"
  serving_role_arn     = "arn:aws:iam::123456789012:role/ml-platform-test-serving"
  studies_user_arn     = "arn:aws:rds-db:us-east-1:123456789012:dbuser:db-ABCDEFGHIJKL/studies"
  endpoint_name_prefix = "ml-platform-test"
  buckets = {
    landing   = { name = "ml-platform-test-landing-1", arn = "arn:aws:s3:::ml-platform-test-landing-1" }
    data      = { name = "ml-platform-test-data-1", arn = "arn:aws:s3:::ml-platform-test-data-1" }
    artifacts = { name = "ml-platform-test-artifacts-1", arn = "arn:aws:s3:::ml-platform-test-artifacts-1" }
  }
}

run "defaults" {
  command = plan

  # --- The cluster

  assert {
    condition     = aws_eks_cluster.this.name == "ml-platform-test" && aws_eks_cluster.this.version == "1.36"
    error_message = "The cluster has another name or version."
  }

  assert {
    condition = (
      aws_eks_cluster.this.access_config[0].authentication_mode == "API"
      && !aws_eks_cluster.this.access_config[0].bootstrap_cluster_creator_admin_permissions
    )
    error_message = "With administrators named, access must be by entries alone and the creator must get none."
  }

  assert {
    condition = (
      aws_eks_cluster.this.vpc_config[0].endpoint_private_access
      && !aws_eks_cluster.this.vpc_config[0].endpoint_public_access
    )
    error_message = "The Kubernetes API must have a private address only."
  }

  assert {
    condition = (
      one(aws_eks_cluster.this.encryption_config[0].resources) == "secrets"
      && aws_eks_cluster.this.encryption_config[0].provider[0].key_arn == var.kms_key_arn
    )
    error_message = "Kubernetes secrets must be encrypted with the environment's key."
  }

  assert {
    condition     = length(aws_eks_cluster.this.enabled_cluster_log_types) == 5
    error_message = "All five kinds of control-plane logs must be on."
  }

  assert {
    condition = (
      aws_cloudwatch_log_group.control_plane.name == "/aws/eks/ml-platform-test/cluster"
      && alltrue([
        for group in concat([aws_cloudwatch_log_group.control_plane], values(aws_cloudwatch_log_group.container_insights)) :
        group.retention_in_days == 30 && group.kms_key_id == var.kms_key_arn
      ])
    )
    error_message = "Log groups must be made beforehand, encrypted and with a retention."
  }

  assert {
    condition = (
      aws_eks_cluster.this.upgrade_policy[0].support_type == "STANDARD"
      && !aws_eks_cluster.this.bootstrap_self_managed_addons
    )
    error_message = "Support must be STANDARD and add-ons EKS's own."
  }

  assert {
    condition     = length(aws_vpc_security_group_ingress_rule.control_plane) == 0
    error_message = "Nobody besides the nodes may reach the Kubernetes API unless named."
  }

  # --- Node groups

  assert {
    condition = { for key, group in aws_eks_node_group.this : key => group.node_group_name } == {
      system       = "ml-platform-test-system"
      cpu          = "ml-platform-test-cpu"
      gpu          = "ml-platform-test-gpu-spot"
      gpu-fallback = "ml-platform-test-gpu-on-demand"
    }
    error_message = "The priority expander finds node groups by these names."
  }

  assert {
    condition = { for key, group in aws_eks_node_group.this : key => group.capacity_type } == {
      system = "ON_DEMAND", cpu = "ON_DEMAND", gpu = "SPOT", gpu-fallback = "ON_DEMAND"
    }
    error_message = "GPU nodes must be spot first, on demand as fallback, all others on demand."
  }

  assert {
    condition = { for key, group in aws_eks_node_group.this : key => group.ami_type } == {
      system       = "BOTTLEROCKET_x86_64"
      cpu          = "BOTTLEROCKET_x86_64"
      gpu          = "BOTTLEROCKET_x86_64_NVIDIA"
      gpu-fallback = "BOTTLEROCKET_x86_64_NVIDIA"
    }
    error_message = "GPU nodes must have the image with drivers, others the one without."
  }

  assert {
    condition = alltrue([
      for key, group in aws_eks_node_group.this :
      group.scaling_config[0].min_size == (key == "system" ? 2 : 0)
      && group.scaling_config[0].desired_size == group.scaling_config[0].min_size
    ])
    error_message = "All groups but the system's must start from nothing."
  }

  assert {
    condition = alltrue([
      for key, group in aws_eks_node_group.this :
      group.labels["ml-platform/node-pool"] == (startswith(key, "gpu") ? "gpu" : key)
    ])
    error_message = "Nodes must bear the label by which the steps choose their pool."
  }

  assert {
    condition = alltrue([
      for key, group in aws_eks_node_group.this : startswith(key, "gpu")
      ? one(group.taint).key == "nvidia.com/gpu" && one(group.taint).value == "true" && one(group.taint).effect == "NO_SCHEDULE"
      : length(group.taint) == 0
    ])
    error_message = "GPU nodes, and only these, must be tainted."
  }

  assert {
    condition     = alltrue([for group in aws_eks_node_group.this : length(group.instance_types) >= 3])
    error_message = "Each group must have several instance types to choose from."
  }

  # --- Launch templates

  assert {
    condition = alltrue([
      for template in aws_launch_template.node :
      template.metadata_options[0].http_tokens == "required"
      && template.metadata_options[0].http_put_response_hop_limit == 1
    ])
    error_message = "Nodes must have IMDSv2 only, out of the pods' reach."
  }

  assert {
    condition = alltrue(flatten([
      for template in aws_launch_template.node : [
        for disk in template.block_device_mappings :
        disk.ebs[0].encrypted == "true" && disk.ebs[0].kms_key_id == var.kms_key_arn && disk.ebs[0].volume_type == "gp3"
      ]
    ]))
    error_message = "All disks must be encrypted with the environment's key."
  }

  assert {
    condition = alltrue([
      for template in aws_launch_template.node :
      [for disk in template.block_device_mappings : disk.device_name] == ["/dev/xvda", "/dev/xvdb"]
    ])
    error_message = "Bottlerocket has two disks."
  }

  assert {
    condition = alltrue([
      for template in aws_launch_template.node :
      template.network_interfaces[0].associate_public_ip_address == "false" && template.monitoring[0].enabled
    ])
    error_message = "Nodes must have no public address, and detailed monitoring."
  }

  # --- The autoscaler's tags

  assert {
    condition = {
      for key, tag in aws_autoscaling_group_tag.autoscaler : tag.tag[0].key => tag.tag[0].value if startswith(key, "gpu/")
      } == {
      "k8s.io/cluster-autoscaler/enabled"                                           = "true"
      "k8s.io/cluster-autoscaler/ml-platform-test"                                  = "owned"
      "k8s.io/cluster-autoscaler/node-template/label/ml-platform/node-pool"         = "gpu"
      "k8s.io/cluster-autoscaler/node-template/label/k8s.amazonaws.com/accelerator" = "nvidia"
      "k8s.io/cluster-autoscaler/node-template/resources/ephemeral-storage"         = "150Gi"
      "k8s.io/cluster-autoscaler/node-template/resources/nvidia.com/gpu"            = "1"
      "k8s.io/cluster-autoscaler/node-template/taint/nvidia.com/gpu"                = "true:NoSchedule"
    }
    error_message = "The autoscaler could not start a GPU node from zero."
  }

  assert {
    condition = alltrue([
      for group in keys(aws_eks_node_group.this) :
      contains(keys(aws_autoscaling_group_tag.autoscaler), "${group}/enabled")
      && contains(keys(aws_autoscaling_group_tag.autoscaler), "${group}/ml-platform-test")
    ])
    error_message = "The autoscaler would not find each group."
  }

  assert {
    condition     = !anytrue([for tag in aws_autoscaling_group_tag.autoscaler : tag.tag[0].propagate_at_launch])
    error_message = "The autoscaler's tags are the group's, not the instances'."
  }

  # --- Add-ons

  assert {
    condition = toset(concat(keys(aws_eks_addon.before_nodes), keys(aws_eks_addon.after_nodes))) == toset([
      "amazon-cloudwatch-observability", "aws-ebs-csi-driver", "coredns", "eks-pod-identity-agent", "kube-proxy",
      "metrics-server", "vpc-cni",
    ])
    error_message = "An add-on is missing, or one too many."
  }

  assert {
    condition     = jsondecode(aws_eks_addon.before_nodes["vpc-cni"].configuration_values).enableNetworkPolicy == "true"
    error_message = "Network policies must be enforced."
  }

  assert {
    condition = {
      for name, association in aws_eks_pod_identity_association.addon :
      name => "${association.namespace}/${association.service_account}"
      } == {
      amazon-cloudwatch-observability = "amazon-cloudwatch/cloudwatch-agent"
      aws-ebs-csi-driver              = "kube-system/ebs-csi-controller-sa"
      vpc-cni                         = "kube-system/aws-node"
    }
    error_message = "Add-ons must have their rights by Pod Identity, not from the node."
  }

  # --- Access

  assert {
    condition = (
      aws_eks_access_entry.airflow.principal_arn == var.airflow_role_arn
      && aws_eks_access_entry.airflow.type == "STANDARD"
      && one(aws_eks_access_entry.airflow.kubernetes_groups) == "ml-platform:airflow"
    )
    error_message = "Airflow must be a member of its Kubernetes group, and nothing more."
  }

  assert {
    condition = (
      one(values(aws_eks_access_policy_association.admin)).principal_arn == "arn:aws:iam::123456789012:role/admin"
      && endswith(one(values(aws_eks_access_policy_association.admin)).policy_arn, "/AmazonEKSClusterAdminPolicy")
    )
    error_message = "The named administrator, and nobody else, must administer the cluster."
  }

  # --- Workloads

  assert {
    condition = {
      for name, association in aws_eks_pod_identity_association.workload :
      association.service_account => association.namespace
      } == {
      validator          = "ml-training"
      preparer           = "ml-training"
      trainer            = "ml-training"
      evaluator          = "ml-training"
      monitor            = "ml-training"
      deployer           = "ml-deployment"
      cluster-autoscaler = "kube-system"
    }
    error_message = "Service accounts differ from those of config/kubernetes."
  }

  assert {
    condition = toset([for attachment in aws_iam_role_policy_attachment.node : attachment.policy_arn]) == toset([
      "arn:aws:iam::aws:policy/AmazonEC2ContainerRegistryPullOnly",
      "arn:aws:iam::aws:policy/AmazonEKSWorkerNodeMinimalPolicy",
    ])
    error_message = "Nodes must have no rights that pods should have."
  }

  assert {
    condition = alltrue([
      for role in concat(
        [aws_iam_role.cluster, aws_iam_role.node], values(aws_iam_role.addon), values(aws_iam_role.workload)
      ) : startswith(role.name, "ml-platform-test-") && role.permissions_boundary == null
    ])
    error_message = "Roles must be named after the cluster."
  }
}

run "outputs" {
  assert {
    condition = (
      output.cluster_name == "ml-platform-test"
      && output.cluster_arn == "arn:aws:eks:eu-central-1:123456789012:cluster/ml-platform-test"
      && output.cluster_endpoint == "https://0123456789ABCDEF.gr7.eu-central-1.eks.amazonaws.com"
      && output.cluster_certificate_authority == "Y2VydGlmaWNhdGU="
      && output.cluster_security_group_id == "sg-0123456789abcdef0"
    )
    error_message = "The outputs do not describe the cluster."
  }

  assert {
    condition = (
      keys(output.node_group_names) == ["cpu", "gpu", "gpu-fallback", "system"]
      && keys(output.autoscaling_group_names) == ["cpu", "gpu", "gpu-fallback", "system"]
      && output.autoscaling_group_names["gpu"] == "eks-ml-platform-test-0123"
    )
    error_message = "The outputs do not name the node groups."
  }

  assert {
    condition = keys(output.service_account_role_arns) == [
      "cluster-autoscaler", "deployer", "evaluator", "monitor", "preparer", "trainer", "validator",
    ]
    error_message = "The outputs do not name the service accounts' roles."
  }

  assert {
    condition = alltrue([
      for template in aws_launch_template.node :
      one(template.network_interfaces[0].security_groups) == "sg-0123456789abcdef0"
    ])
    error_message = "Nodes must be in the cluster's security group."
  }
}
