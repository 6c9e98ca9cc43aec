output "endpoint_security_group_id" {
  description = "Security group of the interface endpoints; it is there without endpoints too."
  value       = aws_security_group.endpoints.id
}

output "flow_log_group_name" {
  description = "Log group of the flow logs."
  value       = aws_cloudwatch_log_group.flow_logs.name
}

output "nat_public_ips" {
  description = "Addresses the VPC's traffic comes from, for allow lists elsewhere; in the order of availability_zones."
  value       = [for zone in var.availability_zones : aws_eip.nat[zone].public_ip if contains(local.nat_zones, zone)]
}

output "private_route_table_ids" {
  description = "Route tables of the private subnets, in the order of availability_zones."
  value       = local.private_route_table_ids
}

# Whoever starts something in a subnet waits for its way out: images are pulled and services called at once.
output "private_subnet_ids" {
  description = "Private subnets, in the order of availability_zones."
  value       = local.private_subnet_ids

  depends_on = [aws_route.nat, aws_route_table_association.private, aws_vpc_endpoint.gateway]
}

output "public_subnet_ids" {
  description = "Public subnets, in the order of availability_zones."
  value       = [for zone in var.availability_zones : aws_subnet.public[zone].id]

  depends_on = [aws_route.internet, aws_route_table_association.public]
}

output "vpc_cidr" {
  description = "IPv4 network of the VPC."
  value       = aws_vpc.this.cidr_block
}

output "vpc_id" {
  description = "The VPC."
  value       = aws_vpc.this.id
}
