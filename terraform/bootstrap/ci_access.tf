# How CI reaches what is private: Airflow's page and the Kubernetes API, through the environments' bastions. The same as
# modules/bastion gives people. See ci_policies.tf.
data "aws_iam_policy_document" "ci_access" {
  # Pools, DAGs and runs. AWS takes `InvokeRestApi` for a public page only; a private one is signed in to. `Op` is one of
  # Airflow's own roles.
  statement {
    sid       = "AirflowsApi"
    actions   = ["airflow:CreateWebLoginToken", "airflow:InvokeRestApi"]
    resources = ["arn:${local.partition}:airflow:${local.here}:role/${local.name}-*/Op"]
  }

  # No shell: that is another document, and the access check asks for the right to it too. It counts only where every
  # statement asks for it.
  statement {
    sid       = "ThroughTheBastions"
    actions   = ["ssm:StartSession"]
    resources = ["arn:${local.partition}:ec2:${local.here}:instance/*"]

    condition {
      test     = "StringLike"
      variable = "ssm:resourceTag/Name"
      values   = ["${local.name}-*-bastion"]
    }

    condition {
      test     = "StringEquals"
      variable = "ssm:resourceTag/Project"
      values   = [local.name]
    }

    condition {
      test     = "BoolIfExists"
      variable = "ssm:SessionDocumentAccessCheck"
      values   = ["true"]
    }
  }

  statement {
    sid       = "ForwardPorts"
    actions   = ["ssm:StartSession"]
    resources = ["arn:${local.partition}:ssm:${var.region}::document/AWS-StartPortForwardingSessionToRemoteHost"]

    condition {
      test     = "BoolIfExists"
      variable = "ssm:SessionDocumentAccessCheck"
      values   = ["true"]
    }
  }

  statement {
    sid       = "OwnSessions"
    actions   = ["ssm:ResumeSession", "ssm:TerminateSession", "ssmmessages:OpenDataChannel"]
    resources = ["arn:${local.partition}:ssm:${local.here}:session/$${aws:userid}-*"]
  }

  # AWS knows no resource for it; `network` lets CI look at instances.
  statement {
    sid       = "SeeWhetherTheyAreConnected"
    actions   = ["ssm:DescribeInstanceInformation"]
    resources = ["*"]
  }
}
