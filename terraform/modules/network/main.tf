data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

data "aws_region" "current" {}

locals {
  # A zone's place in the list is its place in the address plan: appending a zone moves none of the others.
  zones = { for index, zone in var.availability_zones : zone => index }

  # The private subnets are sixteenths of the VPC (/20 of a /16) from its start, because pods take an address each. The
  # public ones hold NAT gateways only: 256ths (/24 of a /16) of the last sixteenth, which leaves the middle for later.
  private_cidrs = { for zone, index in local.zones : zone => cidrsubnet(var.cidr, 4, index) }
  public_cidrs  = { for zone, index in local.zones : zone => cidrsubnet(var.cidr, 8, 240 + index) }

  nat_zones = toset(var.single_nat_gateway ? slice(var.availability_zones, 0, 1) : var.availability_zones)
}

resource "aws_vpc" "this" {
  cidr_block           = var.cidr
  enable_dns_hostnames = true
  enable_dns_support   = true

  tags = { Name = var.name }

  lifecycle {
    precondition {
      condition = alltrue([
        for zone in var.availability_zones : startswith(zone, data.aws_region.current.name)
      ])
      error_message = "availability_zones must lie in the provider's region, ${data.aws_region.current.name}: change the zones (${join(", ", var.availability_zones)}) or the region."
    }
  }
}

# Adopted to take its rules away: whatever is started without a security group of its own can talk to nobody.
resource "aws_default_security_group" "this" {
  vpc_id = aws_vpc.this.id

  tags = { Name = "${var.name}-default-unused" }
}

resource "aws_subnet" "private" {
  for_each = local.zones

  vpc_id            = aws_vpc.this.id
  availability_zone = each.key
  cidr_block        = local.private_cidrs[each.key]

  tags = {
    Name = "${var.name}-private-${each.key}"
    # Where Kubernetes puts the load balancers of services that are not for the internet.
    "kubernetes.io/role/internal-elb" = "1"
  }
}

resource "aws_subnet" "public" {
  for_each = local.zones

  vpc_id            = aws_vpc.this.id
  availability_zone = each.key
  cidr_block        = local.public_cidrs[each.key]

  # A public address is given on purpose (NAT gateways bring their own), never by where something was started.
  map_public_ip_on_launch = false

  tags = {
    Name                     = "${var.name}-public-${each.key}"
    "kubernetes.io/role/elb" = "1"
  }
}
