# What CI may do with what runs: clusters, Airflow, MLflow, endpoints, alarms, budgets. See ci_policies.tf.
data "aws_iam_policy_document" "ci_services" {
  statement {
    sid = "Kubernetes"
    actions = [
      "eks:AssociateAccessPolicy",
      "eks:CreateAccessEntry",
      "eks:CreateAddon",
      "eks:CreateNodegroup",
      "eks:CreatePodIdentityAssociation",
      "eks:DeleteAccessEntry",
      "eks:DeleteAddon",
      "eks:DeleteCluster",
      "eks:DeleteNodegroup",
      "eks:DeletePodIdentityAssociation",
      "eks:DescribeAccessEntry",
      "eks:DescribeAddon",
      "eks:DescribeCluster",
      "eks:DescribeNodegroup",
      "eks:DescribePodIdentityAssociation",
      "eks:DescribeUpdate",
      "eks:DisassociateAccessPolicy",
      "eks:ListAssociatedAccessPolicies",
      "eks:ListNodegroups",
      "eks:ListPodIdentityAssociations",
      "eks:ListTagsForResource",
      "eks:TagResource",
      "eks:UntagResource",
      "eks:UpdateAccessEntry",
      "eks:UpdateAddon",
      "eks:UpdateClusterConfig",
      "eks:UpdateClusterVersion",
      "eks:UpdateNodegroupConfig",
      "eks:UpdateNodegroupVersion",
      "eks:UpdatePodIdentityAssociation",
    ]
    resources = [for kind in ["access-entry", "addon", "cluster", "nodegroup", "podidentityassociation"] : (
      "arn:${local.partition}:eks:${local.here}:${kind}/${local.name}-*"
    )]
  }

  statement {
    sid       = "Airflow"
    actions   = ["airflow:*Environment", "airflow:ListTagsForResource", "airflow:TagResource", "airflow:UntagResource"]
    resources = ["arn:${local.partition}:airflow:${local.here}:environment/${local.name}-*"]
  }

  statement {
    sid = "Mlflow"
    actions = [
      "ecs:CreateCluster",
      "ecs:CreateService",
      "ecs:DeleteCluster",
      "ecs:DeleteService",
      "ecs:DescribeClusters",
      "ecs:DescribeServices",
      "ecs:DescribeTasks",
      "ecs:ListTagsForResource",
      "ecs:PutClusterCapacityProviders",
      "ecs:RunTask",
      "ecs:TagResource",
      "ecs:UntagResource",
      "ecs:UpdateCluster*",
      "ecs:UpdateService",
    ]
    resources = [for kind in ["cluster", "container-instance", "service", "task", "task-definition"] : (
      "arn:${local.partition}:ecs:${local.here}:${kind}/${local.name}-*"
    )]
  }

  statement {
    sid = "Endpoints"
    actions = [
      "sagemaker:AddTags",
      "sagemaker:CreateEndpoint",
      "sagemaker:CreateEndpointConfig",
      "sagemaker:CreateModel",
      "sagemaker:DeleteEndpoint",
      "sagemaker:DeleteEndpointConfig",
      "sagemaker:DeleteModel",
      "sagemaker:DeleteTags",
      "sagemaker:DescribeEndpoint",
      "sagemaker:DescribeEndpointConfig",
      "sagemaker:DescribeModel",
      "sagemaker:InvokeEndpoint",
      "sagemaker:ListTags",
      "sagemaker:UpdateEndpoint",
      "sagemaker:UpdateEndpointWeightsAndCapacities",
    ]
    resources = [for kind in ["endpoint", "endpoint-config", "model"] : (
      "arn:${local.partition}:sagemaker:${local.here}:${kind}/${local.name}-*"
    )]
  }

  # Applications have numbers for names, so "ours" cannot be told by the address.
  statement {
    sid = "SparkApplications"
    actions = [
      "emr-serverless:DeleteApplication",
      "emr-serverless:GetApplication",
      "emr-serverless:ListTagsForResource",
      "emr-serverless:StopApplication",
      "emr-serverless:TagResource",
      "emr-serverless:UntagResource",
      "emr-serverless:UpdateApplication",
    ]
    resources = ["arn:${local.partition}:emr-serverless:${local.here}:/applications/*"]
  }

  statement {
    sid = "AlarmsAndSchedules"
    actions = [
      "cloudwatch:DeleteAlarms",
      "cloudwatch:DeleteDashboards",
      "cloudwatch:DescribeAlarms",
      "cloudwatch:GetDashboard",
      "cloudwatch:ListTagsForResource",
      "cloudwatch:PutCompositeAlarm",
      "cloudwatch:PutDashboard",
      "cloudwatch:PutMetricAlarm",
      "cloudwatch:TagResource",
      "cloudwatch:UntagResource",
      "events:DeleteRule",
      "events:DescribeRule",
      "events:ListTagsForResource",
      "events:ListTargetsByRule",
      "events:PutRule",
      "events:PutTargets",
      "events:RemoveTargets",
      "events:TagResource",
      "events:UntagResource",
      "scheduler:*Schedule",
      "scheduler:*ScheduleGroup",
      "scheduler:ListTagsForResource",
      "scheduler:TagResource",
      "scheduler:UntagResource",
    ]
    resources = [
      "arn:${local.partition}:cloudwatch:${local.here}:alarm:${local.name}-*",
      "arn:${local.partition}:cloudwatch::${local.account_id}:dashboard/${local.global_names}",
      "arn:${local.partition}:events:${local.here}:rule/${local.name}-*",
      "arn:${local.partition}:scheduler:${local.here}:schedule/*/${local.name}-*",
      "arn:${local.partition}:scheduler:${local.here}:schedule-group/${local.name}-*",
    ]
  }

  statement {
    sid = "Budgets"
    actions = [
      "budgets:ListTagsForResource",
      "budgets:ModifyBudget",
      "budgets:TagResource",
      "budgets:UntagResource",
      "budgets:ViewBudget",
    ]
    resources = ["arn:${local.partition}:budgets::${local.account_id}:budget/${local.global_names}-*"]
  }

  # Node groups tag their scaling groups, whose names EKS chooses.
  statement {
    sid       = "ScalingGroupTags"
    actions   = ["autoscaling:CreateOrUpdateTags", "autoscaling:DeleteTags"]
    resources = ["arn:${local.partition}:autoscaling:${local.here}:autoScalingGroup:*:autoScalingGroupName/eks-*"]
  }

  # Task definitions and scaling targets know no name at this point, or none at all.
  statement {
    sid = "NamedLater"
    actions = [
      "application-autoscaling:DeleteScalingPolicy",
      "application-autoscaling:DeregisterScalableTarget",
      "application-autoscaling:DescribeScalableTargets",
      "application-autoscaling:DescribeScalingPolicies",
      "application-autoscaling:ListTagsForResource",
      "application-autoscaling:PutScalingPolicy",
      "application-autoscaling:RegisterScalableTarget",
      "application-autoscaling:TagResource",
      "autoscaling:DescribeAutoScalingGroups",
      "autoscaling:DescribeTags",
      "ecs:DeleteTaskDefinitions",
      "ecs:DeregisterTaskDefinition",
      "ecs:DescribeTaskDefinition",
      "ecs:ListTaskDefinitions",
      "ecs:RegisterTaskDefinition",
      "eks:CreateCluster",
      "eks:DescribeAddonConfiguration",
      "eks:DescribeAddonVersions",
      "eks:DescribeClusterVersions",
      "emr-serverless:CreateApplication",
      "sagemaker:ListEndpointConfigs",
      "sagemaker:ListEndpoints",
      "sagemaker:ListModels",
      "tag:GetResources",
    ]
    resources = ["*"]

    condition {
      test     = "StringEquals"
      variable = "aws:RequestedRegion"
      values   = [var.region]
    }
  }
}
