# A zone for the one name, so that it hides nothing else of the same domain from the VPC.
resource "aws_route53_zone" "this" {
  name    = local.domain_name
  comment = "MLflow of ${var.name}, inside its VPC"

  vpc {
    vpc_id = var.vpc_id
  }
}

resource "aws_route53_record" "this" {
  zone_id = aws_route53_zone.this.zone_id
  name    = local.domain_name
  type    = "A"

  alias {
    name                   = aws_lb.this.dns_name
    zone_id                = aws_lb.this.zone_id
    evaluate_target_health = false # one target: there is no other to answer with
  }
}
