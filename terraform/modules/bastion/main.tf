# A way in for people, on the inside: it dials out to Systems Manager, so nobody has to reach it. What it may talk to
# is what `make open` leads to.

data "aws_caller_identity" "current" {}
data "aws_partition" "current" {}
data "aws_region" "current" {}

locals {
  account_id = data.aws_caller_identity.current.account_id
  partition  = data.aws_partition.current.partition
  region     = data.aws_region.current.name

  name        = "${var.name}-bastion"
  global_name = "${coalesce(var.global_name, var.name)}-bastion"
}

# AWS's newest image, patched. It keeps nothing, so a newer one takes its place at the next apply.
data "aws_ssm_parameter" "image" {
  name = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-arm64"
}

# There is no rule for ingress: sessions come through the connection that the agent has opened.
resource "aws_security_group" "this" {
  name        = local.name
  description = "Bastion: what people reach through it"
  vpc_id      = var.vpc_id

  tags = {
    Name = local.name
  }
}

resource "aws_vpc_security_group_egress_rule" "https" {
  for_each = toset(var.https_egress_cidrs)

  security_group_id = aws_security_group.this.id
  description       = "Systems Manager, Airflow's page, the Kubernetes API, and MLflow with a certificate"
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
  cidr_ipv4         = each.key
}

resource "aws_vpc_security_group_egress_rule" "http" {
  for_each = var.http_security_group_ids

  security_group_id            = aws_security_group.this.id
  description                  = "HTTP to ${each.key}, inside the VPC"
  ip_protocol                  = "tcp"
  from_port                    = 80
  to_port                      = 80
  referenced_security_group_id = each.value
}

resource "aws_instance" "this" {
  ami                         = data.aws_ssm_parameter.image.insecure_value
  instance_type               = var.instance_type
  subnet_id                   = var.subnet_id
  vpc_security_group_ids      = [aws_security_group.this.id]
  associate_public_ip_address = false
  iam_instance_profile        = aws_iam_instance_profile.this.name
  ebs_optimized               = true

  # Nothing here computes: what it has used up it waits for, and does not pay for.
  credit_specification {
    cpu_credits = "standard"
  }

  metadata_options {
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }

  # With the account's own key for disks: the disk holds the image and nothing else.
  root_block_device {
    encrypted   = true
    volume_type = "gp3"
    volume_size = var.disk_gib
  }

  tags = {
    Name = local.name
  }

  # The agent gives up for half an hour when it starts without rights or without a way out.
  depends_on = [aws_iam_role_policy.this, aws_vpc_security_group_egress_rule.https]
}
