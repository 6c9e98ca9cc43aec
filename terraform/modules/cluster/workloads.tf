# One role per service account of config/kubernetes, taken on by EKS Pod Identity. What each may do is in
# workload_policies.tf.

locals {
  # Steps that may do more than read and write their documents.
  further_policies = {
    preparer = data.aws_iam_policy_document.preparer.json
    trainer  = data.aws_iam_policy_document.trainer.json
    monitor  = data.aws_iam_policy_document.monitor.json
    deployer = data.aws_iam_policy_document.deployer.json
  }

  workloads = merge(
    {
      for step, document in data.aws_iam_policy_document.step : step => {
        namespace = step == "deployer" ? "ml-deployment" : "ml-training"
        policy    = lookup(local.further_policies, step, document.json)
      }
    },
    { cluster-autoscaler = { namespace = "kube-system", policy = data.aws_iam_policy_document.cluster_autoscaler.json } },
  )

  # Every pod with rights in AWS, the add-ons' too.
  pod_identities = merge(
    {
      for name, addon in local.addon_identities :
      name => { namespace = addon.namespace, service_account = addon.service_account }
    },
    { for name, workload in local.workloads : name => { namespace = workload.namespace, service_account = name } },
  )
}

# A role can be had only through EKS, only from this cluster, and only by its service account.
data "aws_iam_policy_document" "pod_assume" {
  for_each = local.pod_identities

  statement {
    actions = ["sts:AssumeRole", "sts:TagSession"]

    principals {
      type        = "Service"
      identifiers = ["pods.eks.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [local.account_id]
    }

    condition {
      test     = "ArnEquals"
      variable = "aws:SourceArn"
      values   = [local.cluster_arn]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:RequestTag/kubernetes-namespace"
      values   = [each.value.namespace]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:RequestTag/kubernetes-service-account"
      values   = [each.value.service_account]
    }
  }
}

resource "aws_iam_role" "workload" {
  for_each = local.workloads

  name                 = "${local.global_name}-${each.key}"
  description          = "Service account ${each.value.namespace}/${each.key} of ${var.name}."
  assume_role_policy   = data.aws_iam_policy_document.pod_assume[each.key].json
  permissions_boundary = var.permissions_boundary_arn
}

resource "aws_iam_role_policy" "workload" {
  for_each = local.workloads

  name   = each.key
  role   = aws_iam_role.workload[each.key].name
  policy = each.value.policy
}

resource "aws_eks_pod_identity_association" "workload" {
  for_each = local.workloads

  cluster_name    = aws_eks_cluster.this.name
  namespace       = each.value.namespace
  service_account = each.key
  role_arn        = aws_iam_role.workload[each.key].arn
}
