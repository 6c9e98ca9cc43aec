# What CI may do, a document per concern. Two rules run through all of them:
# - names: whatever AWS lets be named in an ARN is limited to "<name>-*" of this account;
# - place: what has no name when it is made (most of EC2) is limited to the region, and may be deleted only where it
#   carries our Project tag, which the provider puts on everything it makes.
locals {
  here        = "${var.region}:${local.account_id}"
  ci_role_arn = "arn:${local.partition}:iam::${local.account_id}:role/${var.name}-ci"

  ci_iam = [for kind in ["instance-profile", "policy", "role"] : (
    "arn:${local.partition}:iam::${local.account_id}:${kind}/${var.name}-*"
  )]

  ci_policies = {
    data = {
      description = "Buckets, keys, queues, topics, logs and databases of the environments"
      document    = data.aws_iam_policy_document.ci_data.json
    }
    network = {
      description = "Networks, security groups, launch templates and load balancers of the environments"
      document    = data.aws_iam_policy_document.ci_network.json
    }
    release = {
      description = "States of the environments and images"
      document    = data.aws_iam_policy_document.ci_release.json
    }
    roles = {
      description = "Roles of the environments, under the permission boundary"
      document    = data.aws_iam_policy_document.ci_roles.json
    }
    services = {
      description = "Clusters, Airflow, MLflow, endpoints, alarms and budgets of the environments"
      document    = data.aws_iam_policy_document.ci_services.json
    }
  }
}

# --- release: what a run of CI touches even when nothing changes ------------------------------------------------------

data "aws_iam_policy_document" "ci_release" {
  statement {
    sid       = "ListStates"
    actions   = ["s3:ListBucket"]
    resources = [aws_s3_bucket.state.arn]

    condition {
      test     = "StringLike"
      variable = "s3:prefix"
      values   = ["environments/*"]
    }
  }

  # Not `bootstrap/`: CI cannot rewrite what limits it.
  statement {
    sid       = "ReadAndWriteStates"
    actions   = ["s3:GetObject", "s3:PutObject"]
    resources = ["${aws_s3_bucket.state.arn}/environments/*"]
  }

  statement {
    sid       = "ReleaseLocks"
    actions   = ["s3:DeleteObject"]
    resources = ["${aws_s3_bucket.state.arn}/environments/*.tflock"]
  }

  statement {
    sid       = "UseStateAndImageKey"
    actions   = ["kms:Decrypt", "kms:DescribeKey", "kms:GenerateDataKey"]
    resources = [aws_kms_key.this.arn]
  }

  statement {
    sid       = "SignInToImages"
    actions   = ["ecr:GetAuthorizationToken"]
    resources = ["*"]
  }

  # Tags are immutable and nothing here deletes: an image that was pushed stays what it is.
  statement {
    sid = "PushAndScanImages"
    actions = [
      "ecr:BatchCheckLayerAvailability",
      "ecr:BatchGetImage",
      "ecr:CompleteLayerUpload",
      "ecr:DescribeImages",
      "ecr:DescribeImageScanFindings",
      "ecr:DescribeRepositories",
      "ecr:GetDownloadUrlForLayer",
      "ecr:InitiateLayerUpload",
      "ecr:ListTagsForResource",
      "ecr:PutImage",
      "ecr:UploadLayerPart",
    ]
    resources = ["arn:${local.partition}:ecr:${local.here}:repository/${var.name}/*"]
  }
}

# --- data: what is kept -----------------------------------------------------------------------------------------------

data "aws_iam_policy_document" "ci_data" {
  statement {
    sid = "Buckets"
    actions = [
      "s3:CreateBucket",
      "s3:DeleteBucket",
      "s3:DeleteBucketPolicy",
      "s3:GetAccelerateConfiguration",
      "s3:GetBucket*",
      "s3:GetEncryptionConfiguration",
      "s3:GetLifecycleConfiguration",
      "s3:GetReplicationConfiguration",
      "s3:ListBucket",
      "s3:ListBucketVersions",
      "s3:PutBucketLogging",
      "s3:PutBucketNotification",
      "s3:PutBucketOwnershipControls",
      "s3:PutBucketPolicy",
      "s3:PutBucketPublicAccessBlock",
      "s3:PutBucketTagging",
      "s3:PutBucketVersioning",
      "s3:PutEncryptionConfiguration",
      "s3:PutLifecycleConfiguration",
    ]
    resources = ["arn:${local.partition}:s3:::${var.name}-*"]
  }

  # The DAG bundle and its settings; and a bucket is emptied before it goes.
  statement {
    sid = "Objects"
    actions = [
      "s3:DeleteObject",
      "s3:DeleteObjectVersion",
      "s3:GetObject",
      "s3:GetObjectTagging",
      "s3:GetObjectVersion",
      "s3:PutObject",
      "s3:PutObjectTagging",
    ]
    resources = ["arn:${local.partition}:s3:::${var.name}-*/*"]
  }

  # The names above match the state bucket too. What may be done there is in `release`.
  statement {
    sid    = "NotTheStateBucket"
    effect = "Deny"
    actions = [
      "s3:DeleteBucket",
      "s3:DeleteBucketPolicy",
      "s3:PutBucket*",
      "s3:PutEncryptionConfiguration",
      "s3:PutLifecycleConfiguration",
    ]
    resources = [aws_s3_bucket.state.arn]
  }

  statement {
    sid       = "NotTheBootstrapState"
    effect    = "Deny"
    actions   = ["s3:DeleteObject", "s3:GetObject", "s3:GetObjectVersion", "s3:PutObject"]
    resources = ["${aws_s3_bucket.state.arn}/bootstrap/*"]
  }

  statement {
    sid       = "StatesAreKept"
    effect    = "Deny"
    actions   = ["s3:DeleteObject", "s3:DeleteObjectVersion"]
    resources = ["${aws_s3_bucket.state.arn}/*.tfstate"]
  }

  # A key has no name when it is made.
  statement {
    sid       = "MakeKeys"
    actions   = ["kms:CreateKey", "kms:TagResource"]
    resources = ["*"]

    condition {
      test     = "StringEquals"
      variable = "aws:RequestTag/Project"
      values   = [var.name]
    }
  }

  statement {
    sid = "OurKeys"
    actions = [
      "kms:CreateGrant",
      "kms:Decrypt",
      "kms:DescribeKey",
      "kms:EnableKeyRotation",
      "kms:Encrypt",
      "kms:GenerateDataKey",
      "kms:GetKeyPolicy",
      "kms:GetKeyRotationStatus",
      "kms:ListResourceTags",
      "kms:PutKeyPolicy",
      "kms:ScheduleKeyDeletion",
      "kms:UntagResource",
      "kms:UpdateKeyDescription",
    ]
    resources = ["arn:${local.partition}:kms:${local.here}:key/*"]

    condition {
      test     = "StringEquals"
      variable = "aws:ResourceTag/Project"
      values   = [var.name]
    }
  }

  # AWS asks for the right on both, the alias and the key it is to name.
  statement {
    sid     = "KeyAliases"
    actions = ["kms:CreateAlias", "kms:DeleteAlias", "kms:UpdateAlias"]
    resources = [
      "arn:${local.partition}:kms:${local.here}:alias/${var.name}-*",
      "arn:${local.partition}:kms:${local.here}:key/*",
    ]
  }

  statement {
    sid    = "NotTheStateKey"
    effect = "Deny"
    actions = [
      "kms:CreateGrant",
      "kms:PutKeyPolicy",
      "kms:ScheduleKeyDeletion",
    ]
    resources = [aws_kms_key.this.arn]
  }

  statement {
    sid = "QueuesAndTopics"
    actions = [
      "sns:CreateTopic",
      "sns:DeleteTopic",
      "sns:GetTopicAttributes",
      "sns:ListSubscriptionsByTopic",
      "sns:ListTagsForResource",
      "sns:SetTopicAttributes",
      "sns:Subscribe",
      "sns:TagResource",
      "sns:UntagResource",
      "sqs:CreateQueue",
      "sqs:DeleteQueue",
      "sqs:GetQueueAttributes",
      "sqs:GetQueueUrl",
      "sqs:ListQueueTags",
      "sqs:SetQueueAttributes",
      "sqs:TagQueue",
      "sqs:UntagQueue",
    ]
    resources = [
      "arn:${local.partition}:sns:${local.here}:${var.name}-*",
      "arn:${local.partition}:sqs:${local.here}:${var.name}-*",
    ]
  }

  statement {
    sid = "LogGroups"
    actions = [
      "logs:AssociateKmsKey",
      "logs:CreateLogGroup",
      "logs:DeleteLogGroup",
      "logs:DeleteMetricFilter",
      "logs:DisassociateKmsKey",
      "logs:DescribeMetricFilters",
      "logs:ListTagsForResource",
      "logs:PutMetricFilter",
      "logs:PutRetentionPolicy",
      "logs:TagResource",
      "logs:UntagResource",
    ]
    resources = [
      "arn:${local.partition}:logs:${local.here}:log-group:*${var.name}-*",
      "arn:${local.partition}:logs:${local.here}:log-group:*${var.name}-*:*",
    ]
  }

  statement {
    sid = "Databases"
    actions = [
      "rds:AddTagsToResource",
      "rds:CopyDBSnapshot",
      "rds:CreateDBInstance",
      "rds:CreateDBParameterGroup",
      "rds:CreateDBSnapshot",
      "rds:CreateDBSubnetGroup",
      "rds:DeleteDBInstance",
      "rds:DeleteDBParameterGroup",
      "rds:DeleteDBSnapshot",
      "rds:DeleteDBSubnetGroup",
      "rds:DescribeDBInstances",
      "rds:DescribeDBParameterGroups",
      "rds:DescribeDBParameters",
      "rds:DescribeDBSnapshots",
      "rds:DescribeDBSubnetGroups",
      "rds:ListTagsForResource",
      "rds:ModifyDBInstance",
      "rds:ModifyDBParameterGroup",
      "rds:ModifyDBSubnetGroup",
      "rds:RebootDBInstance",
      "rds:RemoveTagsFromResource",
      "rds:ResetDBParameterGroup",
      "rds:RestoreDBInstanceFromDBSnapshot",
      "rds:StartDBInstance",
      "rds:StopDBInstance",
    ]
    resources = [for kind in ["db:${var.name}-", "og:default:", "pg:${var.name}-", "snapshot:${var.name}-", "subgrp:${var.name}-"] : (
      "arn:${local.partition}:rds:${local.here}:${kind}*"
    )]
  }

  # RDS makes and rotates the master secret itself, on behalf of who makes the instance. Its value is not readable.
  statement {
    sid       = "DatabaseSecret"
    actions   = ["secretsmanager:CreateSecret", "secretsmanager:DescribeSecret", "secretsmanager:TagResource"]
    resources = ["arn:${local.partition}:secretsmanager:${local.here}:secret:rds!*"]
  }

  # AWS knows no resource for these.
  statement {
    sid = "FindData"
    actions = [
      "kms:ListAliases",
      "logs:DescribeLogGroups",
      "rds:DescribeDBEngineVersions",
      "sns:GetSubscriptionAttributes",
      "sns:Unsubscribe",
    ]
    resources = ["*"]
  }
}

# --- network: EC2 and load balancers ----------------------------------------------------------------------------------

data "aws_iam_policy_document" "ci_network" {
  statement {
    sid       = "Look"
    actions   = ["ec2:Describe*", "elasticloadbalancing:Describe*", "route53:ListHostedZones*"]
    resources = ["*"]
  }

  statement {
    sid = "MakeAndChange"
    actions = [
      "ec2:AllocateAddress",
      "ec2:AssociateRouteTable",
      "ec2:AttachInternetGateway",
      "ec2:AuthorizeSecurityGroup*",
      "ec2:CreateFlowLogs",
      "ec2:CreateInternetGateway",
      "ec2:CreateLaunchTemplate",
      "ec2:CreateLaunchTemplateVersion",
      "ec2:CreateNatGateway",
      "ec2:CreateRoute",
      "ec2:CreateRouteTable",
      "ec2:CreateSecurityGroup",
      "ec2:CreateSubnet",
      "ec2:CreateTags",
      "ec2:CreateVpc",
      "ec2:CreateVpcEndpoint",
      "ec2:GetSecurityGroupsForVpc",
      "ec2:ModifyLaunchTemplate",
      "ec2:ModifySecurityGroupRules",
      "ec2:ModifySubnetAttribute",
      "ec2:ModifyVpcAttribute",
      "ec2:ModifyVpcEndpoint",
      "ec2:RevokeSecurityGroup*",
      "ec2:RunInstances",
      "ec2:UpdateSecurityGroupRuleDescriptions*",
    ]
    resources = ["*"]

    condition {
      test     = "StringEquals"
      variable = "aws:RequestedRegion"
      values   = [var.region]
    }
  }

  statement {
    sid = "RemoveOurs"
    actions = [
      "ec2:DeleteFlowLogs",
      "ec2:DeleteInternetGateway",
      "ec2:DeleteLaunchTemplate*",
      "ec2:DeleteNatGateway",
      "ec2:DeleteNetworkInterface",
      "ec2:DeleteRoute",
      "ec2:DeleteRouteTable",
      "ec2:DeleteSecurityGroup",
      "ec2:DeleteSubnet",
      "ec2:DeleteTags",
      "ec2:DeleteVpc",
      "ec2:DeleteVpcEndpoints",
      "ec2:DetachInternetGateway",
      "ec2:DisassociateAddress",
      "ec2:DisassociateRouteTable",
      "ec2:ReleaseAddress",
    ]
    resources = ["arn:${local.partition}:ec2:${local.here}:*/*"]

    condition {
      test     = "StringEquals"
      variable = "aws:ResourceTag/Project"
      values   = [var.name]
    }
  }

  statement {
    sid = "LoadBalancers"
    actions = [
      "elasticloadbalancing:AddTags",
      "elasticloadbalancing:CreateListener",
      "elasticloadbalancing:CreateLoadBalancer",
      "elasticloadbalancing:CreateRule",
      "elasticloadbalancing:CreateTargetGroup",
      "elasticloadbalancing:DeleteListener",
      "elasticloadbalancing:DeleteLoadBalancer",
      "elasticloadbalancing:DeleteRule",
      "elasticloadbalancing:DeleteTargetGroup",
      "elasticloadbalancing:ModifyListener",
      "elasticloadbalancing:ModifyLoadBalancerAttributes",
      "elasticloadbalancing:ModifyRule",
      "elasticloadbalancing:ModifyTargetGroup",
      "elasticloadbalancing:ModifyTargetGroupAttributes",
      "elasticloadbalancing:RemoveTags",
      "elasticloadbalancing:SetSecurityGroups",
      "elasticloadbalancing:SetSubnets",
    ]
    resources = [for kind in ["listener", "listener-rule", "loadbalancer", "targetgroup"] : (
      "arn:${local.partition}:elasticloadbalancing:${local.here}:${kind}/${kind == "targetgroup" ? "" : "app/"}${var.name}-*"
    )]
  }

  statement {
    sid       = "MakePrivateZones"
    actions   = ["route53:CreateHostedZone"]
    resources = ["*"]
  }

  # A hosted zone's id is random, and a zone has no region.
  statement {
    sid = "PrivateZones"
    actions = [
      "route53:AssociateVPCWithHostedZone",
      "route53:ChangeResourceRecordSets",
      "route53:ChangeTagsForResource",
      "route53:DeleteHostedZone",
      "route53:GetChange",
      "route53:GetHostedZone",
      "route53:ListResourceRecordSets",
      "route53:ListTagsForResource",
    ]
    resources = [
      "arn:${local.partition}:route53:::change/*",
      "arn:${local.partition}:route53:::hostedzone/*",
      "arn:${local.partition}:ec2:${local.here}:vpc/*",
    ]
  }
}

# --- services: what runs ----------------------------------------------------------------------------------------------

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
      "arn:${local.partition}:eks:${local.here}:${kind}/${var.name}-*"
    )]
  }

  statement {
    sid       = "Airflow"
    actions   = ["airflow:*Environment", "airflow:ListTagsForResource", "airflow:TagResource", "airflow:UntagResource"]
    resources = ["arn:${local.partition}:airflow:${local.here}:environment/${var.name}-*"]
  }

  # Asks which DAGs there are, and starts them; `Op` is one of Airflow's own roles.
  statement {
    sid       = "AirflowsApi"
    actions   = ["airflow:InvokeRestApi"]
    resources = ["arn:${local.partition}:airflow:${local.here}:role/${var.name}-*/Op"]
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
      "arn:${local.partition}:ecs:${local.here}:${kind}/${var.name}-*"
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
      "arn:${local.partition}:sagemaker:${local.here}:${kind}/${var.name}-*"
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
      "arn:${local.partition}:cloudwatch:${local.here}:alarm:${var.name}-*",
      "arn:${local.partition}:cloudwatch::${local.account_id}:dashboard/${var.name}-*",
      "arn:${local.partition}:events:${local.here}:rule/${var.name}-*",
      "arn:${local.partition}:scheduler:${local.here}:schedule/*/${var.name}-*",
      "arn:${local.partition}:scheduler:${local.here}:schedule-group/${var.name}-*",
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
    resources = ["arn:${local.partition}:budgets::${local.account_id}:budget/${var.name}-*"]
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

# --- roles: who may do what; the one place where rights could grow ----------------------------------------------------

data "aws_iam_policy_document" "ci_roles" {
  statement {
    sid = "Look"
    actions = [
      "iam:GetInstanceProfile",
      "iam:GetPolicy",
      "iam:GetPolicyVersion",
      "iam:GetRole",
      "iam:GetRolePolicy",
      "iam:ListAttachedRolePolicies",
      "iam:ListInstanceProfilesForRole",
      "iam:ListPolicyVersions",
      "iam:ListRolePolicies",
      "iam:ListRoleTags",
    ]
    resources = local.ci_iam
  }

  # A role is born under the boundary, and its rights change only while it is.
  statement {
    sid = "RolesUnderTheBoundary"
    actions = [
      "iam:AttachRolePolicy",
      "iam:CreateRole",
      "iam:DeleteRolePolicy",
      "iam:DetachRolePolicy",
      "iam:PutRolePermissionsBoundary",
      "iam:PutRolePolicy",
    ]
    resources = ["arn:${local.partition}:iam::${local.account_id}:role/${var.name}-*"]

    condition {
      test     = "ArnEquals"
      variable = "iam:PermissionsBoundary"
      values   = [aws_iam_policy.boundary.arn]
    }
  }

  statement {
    sid = "CareForRoles"
    actions = [
      "iam:AddRoleToInstanceProfile",
      "iam:CreateInstanceProfile",
      "iam:CreatePolicy",
      "iam:CreatePolicyVersion",
      "iam:DeleteInstanceProfile",
      "iam:DeletePolicy",
      "iam:DeletePolicyVersion",
      "iam:DeleteRole",
      "iam:RemoveRoleFromInstanceProfile",
      "iam:TagInstanceProfile",
      "iam:TagPolicy",
      "iam:TagRole",
      "iam:UntagInstanceProfile",
      "iam:UntagPolicy",
      "iam:UntagRole",
      "iam:UpdateAssumeRolePolicy",
      "iam:UpdateRole",
      "iam:UpdateRoleDescription",
    ]
    resources = local.ci_iam
  }

  # Its own rights, its ceiling and its trust are the account owner's: see README.md.
  statement {
    sid    = "NotItself"
    effect = "Deny"
    actions = [
      "iam:Add*",
      "iam:Attach*",
      "iam:Create*",
      "iam:Delete*",
      "iam:Detach*",
      "iam:PassRole",
      "iam:Put*",
      "iam:Remove*",
      "iam:Set*",
      "iam:Tag*",
      "iam:Untag*",
      "iam:Update*",
    ]
    resources = [
      local.ci_role_arn,
      aws_iam_policy.boundary.arn,
      "arn:${local.partition}:iam::${local.account_id}:policy/${var.name}-ci-*",
      "arn:${local.partition}:iam::${local.account_id}:oidc-provider/*",
    ]
  }

  statement {
    sid       = "NeverWithoutBoundary"
    effect    = "Deny"
    actions   = ["iam:DeleteRolePermissionsBoundary"]
    resources = ["*"]
  }

  statement {
    sid       = "HandRolesToServices"
    actions   = ["iam:PassRole"]
    resources = ["arn:${local.partition}:iam::${local.account_id}:role/${var.name}-*"]

    condition {
      test     = "StringEquals"
      variable = "iam:PassedToService"
      values = [
        "airflow.amazonaws.com",
        "airflow-env.amazonaws.com",
        "ec2.amazonaws.com",
        "ecs-tasks.amazonaws.com",
        "eks.amazonaws.com",
        "monitoring.rds.amazonaws.com",
        "pods.eks.amazonaws.com",
        "sagemaker.amazonaws.com",
        "scheduler.amazonaws.com",
        "vpc-flow-logs.amazonaws.com",
      ]
    }
  }

  # Roles that AWS itself defines, made the first time a service is used in an account.
  statement {
    sid       = "ServiceLinkedRoles"
    actions   = ["iam:CreateServiceLinkedRole"]
    resources = ["arn:${local.partition}:iam::${local.account_id}:role/aws-service-role/*"]

    condition {
      test     = "StringEquals"
      variable = "iam:AWSServiceName"
      values = [
        "airflow.amazonaws.com",
        "autoscaling.amazonaws.com",
        "ecs.amazonaws.com",
        "ecs.application-autoscaling.amazonaws.com",
        "eks.amazonaws.com",
        "eks-nodegroup.amazonaws.com",
        "elasticloadbalancing.amazonaws.com",
        "rds.amazonaws.com",
        "sagemaker.application-autoscaling.amazonaws.com",
        "spot.amazonaws.com",
      ]
    }
  }
}
