locals {
  # Key: what the group is to the rest of the code. Name: what it is called in AWS. The autoscaler's priority
  # expander tells spot from on-demand by the names (`gpu-spot`, `gpu-on-demand`).
  node_groups = merge(
    {
      system = merge(var.system_node_group, {
        name          = "${var.name}-system"
        ami_type      = "BOTTLEROCKET_x86_64"
        capacity_type = "ON_DEMAND" # the add-ons run here; a spot interruption would take DNS with it
        labels        = { "ml-platform/node-pool" = "system" }
        taints        = {}
        resources     = {}
      })
      cpu = merge(var.cpu_node_group, {
        name      = "${var.name}-cpu"
        ami_type  = "BOTTLEROCKET_x86_64"
        labels    = { "ml-platform/node-pool" = "cpu" }
        taints    = {}
        resources = {}
      })
    },
    {
      for group in var.gpu_node_group[*] : "gpu" => merge(group, {
        name      = "${var.name}-gpu-${group.capacity_type == "SPOT" ? "spot" : "on-demand"}"
        ami_type  = "BOTTLEROCKET_x86_64_NVIDIA"
        labels    = local.gpu_labels
        taints    = local.gpu_taints
        resources = { "nvidia.com/gpu" = tostring(group.gpus_per_node) }
      })
    },
    {
      for group in var.gpu_fallback_node_group[*] : "gpu-fallback" => merge(group, {
        name          = "${var.name}-gpu-on-demand"
        ami_type      = "BOTTLEROCKET_x86_64_NVIDIA"
        capacity_type = "ON_DEMAND"
        labels        = local.gpu_labels
        taints        = local.gpu_taints
        resources     = { "nvidia.com/gpu" = tostring(group.gpus_per_node) }
      })
    },
  )

  # The accelerator label tells the autoscaler that a node is not ready before its GPUs are.
  gpu_labels = { "ml-platform/node-pool" = "gpu", "k8s.amazonaws.com/accelerator" = "nvidia" }
  gpu_taints = { "nvidia.com/gpu" = "true" }
}

resource "aws_launch_template" "node" {
  for_each = local.node_groups

  name                   = each.value.name
  description            = "Nodes of the group ${each.value.name}."
  update_default_version = true

  # Bottlerocket has two volumes. The first holds the operating system and is as large as its image says …
  block_device_mappings {
    device_name = "/dev/xvda"

    ebs {
      volume_type           = "gp3"
      encrypted             = true
      kms_key_id            = var.kms_key_arn
      delete_on_termination = true
    }
  }

  # … the second holds container images, logs and the pods' scratch space.
  block_device_mappings {
    device_name = "/dev/xvdb"

    ebs {
      volume_type           = "gp3"
      volume_size           = each.value.disk_gib
      encrypted             = true
      kms_key_id            = var.kms_key_arn
      delete_on_termination = true
    }
  }

  metadata_options {
    http_endpoint = "enabled"
    http_tokens   = "required"
    # One hop ends at the node: pods cannot take the node's role, they have their own by Pod Identity.
    http_put_response_hop_limit = 1
    instance_metadata_tags      = "disabled"
  }

  monitoring {
    enabled = true
  }

  network_interfaces {
    device_index                = 0
    associate_public_ip_address = false
    delete_on_termination       = true
    # EKS adds its group by itself only where the template has no network interface.
    security_groups = [aws_eks_cluster.this.vpc_config[0].cluster_security_group_id]
  }

  # The provider's default tags end at the template; these go on to what is started from it.
  dynamic "tag_specifications" {
    for_each = ["instance", "network-interface", "volume"]

    content {
      resource_type = tag_specifications.value
      tags          = merge(var.tags, { Name = each.value.name })
    }
  }
}

resource "aws_eks_node_group" "this" {
  for_each = local.node_groups

  cluster_name    = aws_eks_cluster.this.name
  node_group_name = each.value.name
  node_role_arn   = aws_iam_role.node.arn
  subnet_ids      = var.private_subnet_ids
  version         = aws_eks_cluster.this.version # nodes follow the control plane, which is upgraded first
  ami_type        = each.value.ami_type
  capacity_type   = each.value.capacity_type
  instance_types  = each.value.instance_types
  labels          = each.value.labels

  launch_template {
    id      = aws_launch_template.node[each.key].id
    version = aws_launch_template.node[each.key].latest_version
  }

  scaling_config {
    min_size     = each.value.min_size
    max_size     = each.value.max_size
    desired_size = each.value.min_size
  }

  dynamic "taint" {
    for_each = each.value.taints

    content {
      key    = taint.key
      value  = taint.value
      effect = "NO_SCHEDULE"
    }
  }

  update_config {
    max_unavailable = 1
  }

  lifecycle {
    # The number of nodes is the autoscaler's business: Terraform would stop nodes with work on them. Other subnets would
    # replace the group, with all its nodes at once; one that is made anew takes all there are.
    ignore_changes = [scaling_config[0].desired_size, subnet_ids]
  }

  depends_on = [
    aws_eks_addon.before_nodes,
    aws_iam_role_policy.node,
    aws_iam_role_policy_attachment.node,
  ]
}

locals {
  # With no node there is nobody to ask what a new one would be like: the autoscaler reads it from these tags.
  autoscaler_tags = {
    for key, group in local.node_groups : key => merge(
      {
        "enabled"                                   = "true"
        (var.name)                                  = "owned"
        "node-template/resources/ephemeral-storage" = "${group.disk_gib}Gi"
      },
      { for label, value in group.labels : "node-template/label/${label}" => value },
      { for taint, value in group.taints : "node-template/taint/${taint}" => "${value}:NoSchedule" },
      { for resource, amount in group.resources : "node-template/resources/${resource}" => amount },
    )
  }
  autoscaling_group_tags = merge([
    for group, tags in local.autoscaler_tags : {
      for tag, value in tags :
      "${group}/${tag}" => { group = group, key = "k8s.io/cluster-autoscaler/${tag}", value = value }
    }
  ]...)
}

# On the Auto Scaling groups, because tags of a node group do not reach its group.
resource "aws_autoscaling_group_tag" "autoscaler" {
  for_each = local.autoscaling_group_tags

  autoscaling_group_name = aws_eks_node_group.this[each.value.group].resources[0].autoscaling_groups[0].name

  tag {
    key                 = each.value.key
    value               = each.value.value
    propagate_at_launch = false
  }
}

data "aws_iam_policy_document" "node_assume" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["ec2.amazonaws.com"]
    }
  }
}

resource "aws_iam_role" "node" {
  name                 = "${local.global_name}-node"
  description          = "Nodes of the EKS cluster ${var.name}; pods have roles of their own."
  assume_role_policy   = data.aws_iam_policy_document.node_assume.json
  permissions_boundary = var.permissions_boundary_arn
}

# The minimal policy lets the Pod Identity agent fetch the pods' credentials. What the network add-on needs is in that
# add-on's own role (addons.tf), not here.
resource "aws_iam_role_policy_attachment" "node" {
  for_each = toset(["AmazonEC2ContainerRegistryPullOnly", "AmazonEKSWorkerNodeMinimalPolicy"])

  role       = aws_iam_role.node.name
  policy_arn = "arn:${local.partition}:iam::aws:policy/${each.value}"
}

# What Bottlerocket asks on its way into the cluster, on top of the minimal policy: its own private DNS name, and the
# cluster's network.
data "aws_iam_policy_document" "node" {
  statement {
    sid     = "FindOwnName"
    actions = ["ec2:DescribeInstances", "ec2:DescribeInstanceTypes"]
    # EC2 knows no narrower resource for these.
    resources = ["*"]
  }

  statement {
    sid       = "FindCluster"
    actions   = ["eks:DescribeCluster"]
    resources = [local.cluster_arn]
  }
}

resource "aws_iam_role_policy" "node" {
  name   = "join-cluster"
  role   = aws_iam_role.node.name
  policy = data.aws_iam_policy_document.node.json
}
