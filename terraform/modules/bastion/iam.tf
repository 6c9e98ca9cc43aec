data "aws_iam_policy_document" "assume" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["ec2.${data.aws_partition.current.dns_suffix}"]
    }
  }
}

resource "aws_iam_role" "this" {
  name                 = local.global_name
  description          = "Bastion of ${var.name}: carries sessions of Systems Manager, and nothing besides"
  assume_role_policy   = data.aws_iam_policy_document.assume.json
  permissions_boundary = var.permissions_boundary_arn
}

# What sessions need of AmazonSSMManagedInstanceCore. The rest of it (parameters, patches, inventory, commands) is not
# given: this instance forwards ports.
data "aws_iam_policy_document" "this" {
  statement {
    sid       = "SayThatItIsThere"
    actions   = ["ssm:UpdateInstanceInformation"]
    resources = ["arn:${local.partition}:ec2:${local.region}:${local.account_id}:instance/*"]
  }

  # AWS knows no resource for these.
  statement {
    sid = "Sessions"
    actions = [
      "ssmmessages:CreateControlChannel",
      "ssmmessages:CreateDataChannel",
      "ssmmessages:OpenControlChannel",
      "ssmmessages:OpenDataChannel",
    ]
    resources = ["*"]
  }
}

resource "aws_iam_role_policy" "this" {
  name   = "sessions"
  role   = aws_iam_role.this.id
  policy = data.aws_iam_policy_document.this.json
}

resource "aws_iam_instance_profile" "this" {
  name = local.global_name
  role = aws_iam_role.this.name
}

# For people's own roles, wherever those are made: forward ports through this instance. No shell: that is another
# document, and the access check asks for the right to it too. It counts only where every statement asks for it.
data "aws_iam_policy_document" "forward" {
  statement {
    sid       = "ThroughThisInstance"
    actions   = ["ssm:StartSession"]
    resources = ["arn:${local.partition}:ec2:${local.region}:${local.account_id}:instance/*"]

    condition {
      test     = "StringEquals"
      variable = "ssm:resourceTag/Name"
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
    resources = ["arn:${local.partition}:ssm:${local.region}::document/AWS-StartPortForwardingSessionToRemoteHost"]

    condition {
      test     = "BoolIfExists"
      variable = "ssm:SessionDocumentAccessCheck"
      values   = ["true"]
    }
  }

  statement {
    sid       = "OwnSessions"
    actions   = ["ssm:ResumeSession", "ssm:TerminateSession", "ssmmessages:OpenDataChannel"]
    resources = ["arn:${local.partition}:ssm:${local.region}:${local.account_id}:session/$${aws:userid}-*"]
  }

  # AWS knows no resource for these; they only read.
  statement {
    sid       = "SeeWhetherItIsThere"
    actions   = ["ec2:DescribeInstances", "ssm:DescribeInstanceInformation"]
    resources = ["*"]
  }
}

resource "aws_iam_policy" "forward" {
  name        = "${local.global_name}-forward"
  description = "Forward ports through the bastion of ${var.name}; for the roles of people who use `make open`"
  policy      = data.aws_iam_policy_document.forward.json
}
