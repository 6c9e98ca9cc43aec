# Spark for what does not fit a pod: an EMR Serverless application that costs nothing while no job runs.

data "aws_caller_identity" "current" {}
data "aws_partition" "current" {}
data "aws_region" "current" {}

locals {
  global_name = "${coalesce(var.global_name, var.name)}-preparation"
  account_id  = data.aws_caller_identity.current.account_id
  partition   = data.aws_partition.current.partition
  region      = data.aws_region.current.name
  name        = "${var.name}-preparation"
}

resource "aws_emrserverless_application" "this" {
  name          = local.name
  type          = "SPARK"
  release_label = var.release_label

  maximum_capacity {
    cpu    = "${var.maximum_vcpu} vCPU"
    memory = "${var.maximum_memory_gib} GB"
    disk   = "${var.maximum_disk_gib} GB"
  }

  # Nothing is kept warm: workers are there while a job runs.
  auto_start_configuration {
    enabled = true
  }

  auto_stop_configuration {
    enabled              = true
    idle_timeout_minutes = 15
  }

  network_configuration {
    subnet_ids         = var.private_subnet_ids
    security_group_ids = [aws_security_group.this.id]
  }
}

# Workers talk to one another and to AWS; nobody talks to them.

resource "aws_security_group" "this" {
  name        = local.name
  description = "Spark workers of ${var.name}"
  vpc_id      = var.vpc_id

  tags = { Name = local.name }
}

resource "aws_vpc_security_group_ingress_rule" "workers" {
  security_group_id            = aws_security_group.this.id
  description                  = "Spark workers among themselves"
  ip_protocol                  = "-1"
  referenced_security_group_id = aws_security_group.this.id
}

resource "aws_vpc_security_group_egress_rule" "workers" {
  security_group_id            = aws_security_group.this.id
  description                  = "Spark workers among themselves"
  ip_protocol                  = "-1"
  referenced_security_group_id = aws_security_group.this.id
}

resource "aws_vpc_security_group_egress_rule" "https" {
  security_group_id = aws_security_group.this.id
  description       = "HTTPS to S3 and other AWS services"
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
  cidr_ipv4         = "0.0.0.0/0"
}
