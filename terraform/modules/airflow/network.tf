resource "aws_security_group" "this" {
  name        = "${var.name}-airflow"
  description = "Managed Airflow: its own containers, queue and database"
  vpc_id      = var.vpc_id

  tags = {
    Name = "${var.name}-airflow"
  }
}

# What MWAA asks for: schedulers, workers, web servers and its database in our subnets talk to each other.
resource "aws_vpc_security_group_ingress_rule" "self" {
  security_group_id            = aws_security_group.this.id
  description                  = "Between the parts of Airflow"
  ip_protocol                  = "-1"
  referenced_security_group_id = aws_security_group.this.id
}

# MWAA puts this group on the web server's endpoint in our subnets too, so who is let in here reaches Airflow's page.
resource "aws_vpc_security_group_ingress_rule" "client_security_groups" {
  for_each = var.client_security_group_ids

  security_group_id            = aws_security_group.this.id
  description                  = "Airflow's page from ${each.key}"
  ip_protocol                  = "tcp"
  from_port                    = 443
  to_port                      = 443
  referenced_security_group_id = each.value
}

resource "aws_vpc_security_group_ingress_rule" "client_cidrs" {
  for_each = toset(var.client_cidrs)

  security_group_id = aws_security_group.this.id
  description       = "Airflow's page from private clients"
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
  cidr_ipv4         = each.key
}

resource "aws_vpc_security_group_egress_rule" "self" {
  security_group_id            = aws_security_group.this.id
  description                  = "Between the parts of Airflow"
  ip_protocol                  = "-1"
  referenced_security_group_id = aws_security_group.this.id
}

resource "aws_vpc_security_group_egress_rule" "https" {
  security_group_id = aws_security_group.this.id
  description       = "AWS APIs, the cluster's API and MLflow"
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
  cidr_ipv4         = "0.0.0.0/0"
}

resource "aws_vpc_security_group_egress_rule" "http" {
  for_each = toset(var.http_egress_cidrs)

  security_group_id = aws_security_group.this.id
  description       = "MLflow without a certificate, inside the VPC"
  ip_protocol       = "tcp"
  from_port         = 80
  to_port           = 80
  cidr_ipv4         = each.key
}

resource "aws_vpc_security_group_egress_rule" "smtp" {
  for_each = toset(var.smtp_egress_cidrs)

  security_group_id = aws_security_group.this.id
  description       = "Notifications by e-mail"
  ip_protocol       = "tcp"
  from_port         = 587
  to_port           = 587
  cidr_ipv4         = each.key
}
