resource "aws_security_group" "this" {
  count = var.vpc_config == null ? 0 : 1

  name        = "${var.name}-serving"
  description = "SageMaker endpoints of ${var.name}"
  vpc_id      = var.vpc_config.vpc_id

  tags = { Name = "${var.name}-serving" }
}

# No ingress: requests come through SageMaker, not through the VPC. The way out is for SageMaker's download of the model
# from S3, which goes through the VPC once there is one; the container itself is isolated.
resource "aws_vpc_security_group_egress_rule" "https" {
  count = var.vpc_config == null ? 0 : 1

  security_group_id = aws_security_group.this[0].id
  description       = "HTTPS to S3 and other AWS services"
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
  cidr_ipv4         = "0.0.0.0/0"
}
