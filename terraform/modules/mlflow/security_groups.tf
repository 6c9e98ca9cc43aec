# Clients → load balancer → service → database, each let in by the one before it and by nothing else.

resource "aws_security_group" "load_balancer" {
  name        = "${local.name}-load-balancer"
  description = "MLflow: load balancer"
  vpc_id      = var.vpc_id

  tags = {
    Name = "${local.name}-load-balancer"
  }
}

resource "aws_security_group" "service" {
  name        = "${local.name}-service"
  description = "MLflow: server and migration"
  vpc_id      = var.vpc_id

  tags = {
    Name = "${local.name}-service"
  }
}

resource "aws_security_group" "database" {
  name        = "${local.name}-database"
  description = "MLflow: PostgreSQL"
  vpc_id      = var.vpc_id

  tags = {
    Name = "${local.name}-database"
  }
}

# Also with a certificate: this port only redirects then, and a client that got the scheme wrong is told, not left to
# time out.
resource "aws_vpc_security_group_ingress_rule" "load_balancer_http" {
  for_each = var.client_security_group_ids

  security_group_id            = aws_security_group.load_balancer.id
  description                  = "HTTP from ${each.key}"
  ip_protocol                  = "tcp"
  from_port                    = 80
  to_port                      = 80
  referenced_security_group_id = each.value
}

resource "aws_vpc_security_group_ingress_rule" "load_balancer_https" {
  for_each = local.https ? var.client_security_group_ids : {}

  security_group_id            = aws_security_group.load_balancer.id
  description                  = "HTTPS from ${each.key}"
  ip_protocol                  = "tcp"
  from_port                    = 443
  to_port                      = 443
  referenced_security_group_id = each.value
}

resource "aws_vpc_security_group_ingress_rule" "load_balancer_client_cidrs" {
  for_each = {
    for pair in setproduct(var.client_cidrs, local.https ? [80, 443] : [80]) :
    "${pair[0]} ${pair[1]}" => { cidr = pair[0], port = pair[1] }
  }

  security_group_id = aws_security_group.load_balancer.id
  description       = "Private clients"
  ip_protocol       = "tcp"
  from_port         = each.value.port
  to_port           = each.value.port
  cidr_ipv4         = each.value.cidr
}

resource "aws_vpc_security_group_egress_rule" "load_balancer" {
  security_group_id            = aws_security_group.load_balancer.id
  description                  = "The MLflow server"
  ip_protocol                  = "tcp"
  from_port                    = local.port
  to_port                      = local.port
  referenced_security_group_id = aws_security_group.service.id
}

resource "aws_vpc_security_group_ingress_rule" "service" {
  security_group_id            = aws_security_group.service.id
  description                  = "The load balancer"
  ip_protocol                  = "tcp"
  from_port                    = local.port
  to_port                      = local.port
  referenced_security_group_id = aws_security_group.load_balancer.id
}

resource "aws_vpc_security_group_egress_rule" "service_https" {
  security_group_id = aws_security_group.service.id
  description       = "AWS APIs: image, artifacts, secret, logs"
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
  cidr_ipv4         = "0.0.0.0/0"
}

resource "aws_vpc_security_group_egress_rule" "service_database" {
  security_group_id            = aws_security_group.service.id
  description                  = "PostgreSQL"
  ip_protocol                  = "tcp"
  from_port                    = 5432
  to_port                      = 5432
  referenced_security_group_id = aws_security_group.database.id
}

resource "aws_vpc_security_group_ingress_rule" "database" {
  security_group_id            = aws_security_group.database.id
  description                  = "The MLflow server and its migration"
  ip_protocol                  = "tcp"
  from_port                    = 5432
  to_port                      = 5432
  referenced_security_group_id = aws_security_group.service.id
}

resource "aws_vpc_security_group_ingress_rule" "studies" {
  for_each = var.study_client_security_group_ids

  security_group_id            = aws_security_group.database.id
  description                  = "Studies of the searches, from ${each.key}"
  ip_protocol                  = "tcp"
  from_port                    = 5432
  to_port                      = 5432
  referenced_security_group_id = each.value
}
