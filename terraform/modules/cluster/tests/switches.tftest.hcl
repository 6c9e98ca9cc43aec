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

run "public_endpoint_for_named_networks" {
  command = plan

  variables {
    endpoint_public_access_cidrs = ["203.0.113.0/24"]
  }

  assert {
    condition = (
      aws_eks_cluster.this.vpc_config[0].endpoint_private_access
      && aws_eks_cluster.this.vpc_config[0].endpoint_public_access
      && aws_eks_cluster.this.vpc_config[0].public_access_cidrs == toset(["203.0.113.0/24"])
    )
    error_message = "The public address must be open to the named networks, and the private one stay."
  }
}

run "no_administrators" {
  command = plan

  variables {
    admin_role_arns = []
  }

  assert {
    condition = (
      one(keys(aws_eks_access_entry.admin)) == "arn:aws:iam::123456789012:role/aws-reserved/sso.amazonaws.com/engineer"
      && one(values(aws_eks_access_policy_association.admin)).principal_arn == one(keys(aws_eks_access_entry.admin))
      && !aws_eks_cluster.this.access_config[0].bootstrap_cluster_creator_admin_permissions
    )
    error_message = "With no administrator named, whoever creates the cluster must be one, by an entry that can be seen."
  }
}

run "gpu_on_demand_only" {
  command = plan

  variables {
    gpu_node_group          = { capacity_type = "ON_DEMAND" }
    gpu_fallback_node_group = null
  }

  assert {
    condition = (
      keys(aws_eks_node_group.this) == ["cpu", "gpu", "system"]
      && aws_eks_node_group.this["gpu"].node_group_name == "ml-platform-test-gpu-on-demand"
      && aws_eks_node_group.this["gpu"].capacity_type == "ON_DEMAND"
    )
    error_message = "There must be one GPU group, on demand and named so."
  }
}

run "no_gpus" {
  command = plan

  variables {
    gpu_node_group          = null
    gpu_fallback_node_group = null
  }

  assert {
    condition = (
      keys(aws_eks_node_group.this) == ["cpu", "system"]
      && keys(aws_launch_template.node) == ["cpu", "system"]
      && !anytrue([for key in keys(aws_autoscaling_group_tag.autoscaler) : startswith(key, "gpu")])
    )
    error_message = "There must be nothing of GPU nodes."
  }
}

run "no_fallback" {
  command = plan

  variables {
    gpu_fallback_node_group = null
  }

  assert {
    condition = (
      keys(aws_eks_node_group.this) == ["cpu", "gpu", "system"]
      && !anytrue([for key in keys(aws_autoscaling_group_tag.autoscaler) : startswith(key, "gpu-fallback/")])
    )
    error_message = "There must be no fallback group, and no tags of one."
  }
}

run "sizes" {
  command = plan

  variables {
    system_node_group = { instance_types = ["m7i-flex.large"], min_size = 1, max_size = 1, disk_gib = 20 }
    cpu_node_group    = { instance_types = ["c6i.2xlarge"], capacity_type = "SPOT", min_size = 1, max_size = 8 }
    gpu_node_group    = { instance_types = ["g5.12xlarge"], max_size = 2, gpus_per_node = 4, disk_gib = 300 }
  }

  assert {
    condition = (
      aws_eks_node_group.this["system"].scaling_config[0].max_size == 1
      && aws_eks_node_group.this["cpu"].scaling_config[0].min_size == 1
      && aws_eks_node_group.this["cpu"].scaling_config[0].max_size == 8
      && aws_eks_node_group.this["cpu"].capacity_type == "SPOT"
      && aws_eks_node_group.this["gpu"].instance_types == tolist(["g5.12xlarge"])
    )
    error_message = "The groups do not have the sizes asked for."
  }

  assert {
    condition = (
      aws_launch_template.node["gpu"].block_device_mappings[1].ebs[0].volume_size == 300
      && aws_autoscaling_group_tag.autoscaler["gpu/node-template/resources/ephemeral-storage"].tag[0].value == "300Gi"
      && aws_autoscaling_group_tag.autoscaler["gpu/node-template/resources/nvidia.com/gpu"].tag[0].value == "4"
    )
    error_message = "The autoscaler must be told what a node of this size has."
  }
}

run "addon_versions" {
  command = plan

  variables {
    addon_versions = { vpc-cni = "v1.20.4-eksbuild.2", coredns = "v1.12.4-eksbuild.1" }
  }

  assert {
    condition = (
      aws_eks_addon.before_nodes["vpc-cni"].addon_version == "v1.20.4-eksbuild.2"
      && aws_eks_addon.after_nodes["coredns"].addon_version == "v1.12.4-eksbuild.1"
    )
    error_message = "The add-ons do not have the versions asked for."
  }
}

run "clients_and_boundary" {
  command = plan

  variables {
    client_security_group_ids = { airflow = "sg-0000000000000000a" }
    client_cidrs              = ["10.8.0.0/16"]
    permissions_boundary_arn  = "arn:aws:iam::123456789012:policy/ml-platform-boundary"
    upgrade_support_type      = "EXTENDED"
    log_retention_days        = 365
    kubernetes_version        = "1.35"
    tags                      = { CostCenter = "ml" }
  }

  assert {
    condition = (
      aws_vpc_security_group_ingress_rule.control_plane["airflow"].referenced_security_group_id == "sg-0000000000000000a"
      && aws_vpc_security_group_ingress_rule.control_plane["airflow"].from_port == 443
      && aws_vpc_security_group_ingress_rule.control_plane["airflow"].to_port == 443
    )
    error_message = "The client must reach the Kubernetes API, at its port only."
  }

  assert {
    condition     = [for rule in aws_vpc_security_group_ingress_rule.control_plane_client_cidrs : "${rule.cidr_ipv4} ${rule.from_port}-${rule.to_port}"] == ["10.8.0.0/16 443-443"]
    error_message = "So must private clients."
  }

  assert {
    condition = alltrue([
      for role in concat(
        [aws_iam_role.cluster, aws_iam_role.node], values(aws_iam_role.addon), values(aws_iam_role.workload)
      ) : role.permissions_boundary == "arn:aws:iam::123456789012:policy/ml-platform-boundary"
    ])
    error_message = "Every role must have the boundary."
  }

  assert {
    condition = (
      aws_eks_cluster.this.upgrade_policy[0].support_type == "EXTENDED"
      && aws_eks_cluster.this.version == "1.35"
      && aws_cloudwatch_log_group.control_plane.retention_in_days == 365
    )
    error_message = "The cluster does not have the support, version or retention asked for."
  }

  assert {
    condition = alltrue(flatten([
      for template in aws_launch_template.node : [
        for specification in template.tag_specifications : specification.tags["CostCenter"] == "ml"
      ]
    ]))
    error_message = "Instances, disks and network interfaces must bear the tags."
  }
}
