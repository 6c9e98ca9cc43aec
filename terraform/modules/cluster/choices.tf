# What there is to choose from. variables.tf refers to it, so nothing here asks AWS or refers to a resource.
locals {
  # The nodes run Bottlerocket for x86_64, so Arm families (m7g, g5g …) are not listed.
  general_instance_families = [
    "c5", "c5a", "c6a", "c6i", "c7a", "c7i", "m5", "m5a", "m6a", "m6i", "m7a", "m7i", "m7i-flex",
    "r5", "r5a", "r6a", "r6i", "r7a", "r7i", "t3", "t3a",
  ]
  # NVIDIA Turing and newer: what current drivers still support.
  gpu_instance_families = ["g4dn", "g5", "g6", "g6e", "gr6", "p4d", "p4de", "p5", "p5e", "p5en"]

  general_instance_type = "^(${join("|", local.general_instance_families)})[.][a-z0-9-]+$"
  gpu_instance_type     = "^(${join("|", local.gpu_instance_families)})[.][a-z0-9-]+$"

  on_system_nodes = { nodeSelector = { "ml-platform/node-pool" = "system" } }

  addons_before_nodes = {
    eks-pod-identity-agent = {}
    kube-proxy             = {}
    # NetworkPolicy objects have no effect unless this says so.
    vpc-cni = { enableNetworkPolicy = "true" }
  }

  # What is not a daemon on each node stays on the system nodes: a CPU node with a DNS server on it never goes away.
  addons_after_nodes = {
    amazon-cloudwatch-observability = {
      agent = {
        config = {
          logs = { metrics_collected = { kubernetes = { enhanced_container_insights = true } } }
        }
      }
      containerLogs = { enabled = true }
    }
    aws-ebs-csi-driver = { controller = local.on_system_nodes }
    coredns            = local.on_system_nodes
    metrics-server     = local.on_system_nodes
  }

  addon_names = sort(concat(keys(local.addons_before_nodes), keys(local.addons_after_nodes)))
}
