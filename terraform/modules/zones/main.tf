# Which zones the network lies in. A letter says nothing: us-east-1a of one account is us-east-1c of another. What a
# zone has is asked for, and its id, which is the same in every account, is its place in the order.

data "aws_availability_zones" "ordinary" {
  state = "available"

  # Not local and wavelength zones: those have few of the services, and have to be opted in to.
  filter {
    name   = "zone-type"
    values = ["availability-zone"]
  }

  filter {
    name   = "opt-in-status"
    values = ["opt-in-not-required"]
  }
}

data "aws_ec2_instance_type_offerings" "nodes" {
  for_each = var.instance_types

  location_type = "availability-zone"

  filter {
    name   = "instance-type"
    values = each.value
  }
}

data "aws_vpc_endpoint_service" "private" {
  for_each = toset(var.interface_endpoints)

  service      = each.key
  service_type = "Interface"
}

locals {
  eks_refuses = yamldecode(file("${path.module}/eks_refuses.yaml"))

  zone_names = zipmap(data.aws_availability_zones.ordinary.zone_ids, data.aws_availability_zones.ordinary.names)
  zone_ids   = { for id, name in local.zone_names : name => id }

  # One of a node group's instance types will do; every private endpoint has to be there.
  usable_zones = [
    for id in sort(keys(local.zone_names)) : local.zone_names[id] if alltrue(concat(
      [!contains(local.eks_refuses, id)],
      [for offers in data.aws_ec2_instance_type_offerings.nodes : contains(offers.locations, local.zone_names[id])],
      [for service in data.aws_vpc_endpoint_service.private : contains(service.availability_zones, local.zone_names[id])],
    ))
  ]

  # With fewer than are wanted, the refusals below say why.
  availability_zones = var.availability_zones != null ? var.availability_zones : slice(
    terraform_data.zones.input, 0, min(var.zones, length(terraform_data.zones.input))
  )
}

# The order is kept from the first apply on, whole: another zone of AWS's, or other instance types, move nothing that is
# there, and a third zone later on is the next one of the same list.
resource "terraform_data" "zones" {
  input = local.usable_zones

  lifecycle {
    ignore_changes = [input]

    precondition {
      condition = !anytrue([
        for zone in coalesce(var.availability_zones, []) : contains(local.eks_refuses, lookup(local.zone_ids, zone, ""))
      ])
      error_message = "availability_zones (${join(", ", [
        for zone in coalesce(var.availability_zones, []) : "${zone} is ${lookup(local.zone_ids, zone, "unknown")}"
      ])}): EKS makes no control plane in ${join(", ", local.eks_refuses)}; name others, or none, and they are chosen."
    }

    postcondition {
      condition     = var.availability_zones != null || length(self.input) >= var.zones
      error_message = "zones is ${var.zones}, and the zones found when this network was made are ${length(self.input)} (${join(", ", self.input)}): others lack EKS, an instance type of the nodes or a private endpoint (`make preflight` says which). Ask for fewer, allow other instance types, or, to add one to a network that is there, write all of its zones down in availability_zones and append."
    }
  }
}
