mock_provider "aws" {
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }

  mock_data "aws_partition" {
    defaults = { partition = "aws" }
  }

  mock_data "aws_region" {
    defaults = { name = "eu-central-1" }
  }

  mock_data "aws_iam_policy_document" {
    defaults = { json = "{}" }
  }

  mock_resource "aws_cloudwatch_log_group" {
    defaults = { arn = "arn:aws:logs:eu-central-1:123456789012:log-group:mock" }
  }

  mock_resource "aws_iam_role" {
    defaults = { arn = "arn:aws:iam::123456789012:role/mock" }
  }
}

variables {
  name               = "ml-platform-test"
  availability_zones = ["eu-central-1a", "eu-central-1b", "eu-central-1c"]
  kms_key_arn        = "arn:aws:kms:eu-central-1:123456789012:key/11111111-2222-3333-4444-555555555555"
}

run "defaults" {
  command = apply

  assert {
    condition     = aws_vpc.this.cidr_block == "10.20.0.0/16" && output.vpc_cidr == "10.20.0.0/16"
    error_message = "The VPC has the default network."
  }

  assert {
    condition     = aws_vpc.this.enable_dns_hostnames && aws_vpc.this.enable_dns_support
    error_message = "Private names of endpoints and load balancers need DNS in the VPC."
  }

  assert {
    condition = [for zone in var.availability_zones : aws_subnet.private[zone].cidr_block] == [
      "10.20.0.0/20", "10.20.16.0/20", "10.20.32.0/20",
    ]
    error_message = "Private subnets are the first /20s, one per zone."
  }

  assert {
    condition = [for zone in var.availability_zones : aws_subnet.public[zone].cidr_block] == [
      "10.20.240.0/24", "10.20.241.0/24", "10.20.242.0/24",
    ]
    error_message = "Public subnets are /24s at the end, one per zone."
  }

  assert {
    condition     = alltrue([for zone, subnet in aws_subnet.private : subnet.availability_zone == zone])
    error_message = "Each private subnet lies in its zone."
  }

  assert {
    condition     = !anytrue([for subnet in concat(values(aws_subnet.public), values(aws_subnet.private)) : subnet.map_public_ip_on_launch])
    error_message = "No subnet gives public addresses by itself."
  }

  assert {
    condition     = alltrue([for subnet in aws_subnet.private : subnet.tags["kubernetes.io/role/internal-elb"] == "1"])
    error_message = "Kubernetes finds the private subnets for internal load balancers."
  }

  assert {
    condition     = alltrue([for subnet in aws_subnet.public : subnet.tags["kubernetes.io/role/elb"] == "1"])
    error_message = "Kubernetes finds the public subnets for load balancers of the internet."
  }

  assert {
    condition     = keys(aws_nat_gateway.this) == ["eu-central-1a"] && length(aws_eip.nat) == 1
    error_message = "By default one NAT gateway serves all zones."
  }

  assert {
    condition     = alltrue([for route in aws_route.nat : route.nat_gateway_id == aws_nat_gateway.this["eu-central-1a"].id])
    error_message = "Every private route table leads to the single NAT gateway."
  }

  assert {
    condition     = alltrue([for zone, route in aws_route.nat : route.route_table_id == aws_route_table.private[zone].id])
    error_message = "Every zone has its own private route table with a way out."
  }

  assert {
    condition     = aws_route.internet.gateway_id == aws_internet_gateway.this.id && aws_route.internet.destination_cidr_block == "0.0.0.0/0"
    error_message = "The public subnets reach the internet directly."
  }

  assert {
    condition     = aws_default_security_group.this.vpc_id == aws_vpc.this.id
    error_message = "The default security group is adopted."
  }

  assert {
    condition     = keys(aws_vpc_endpoint.gateway) == ["dynamodb", "s3"]
    error_message = "S3 and DynamoDB have gateway endpoints."
  }

  assert {
    condition = alltrue([
      for endpoint in aws_vpc_endpoint.gateway : endpoint.vpc_endpoint_type == "Gateway" && length(endpoint.route_table_ids) == 3
    ])
    error_message = "The gateway endpoints serve all private route tables."
  }

  assert {
    condition     = aws_vpc_endpoint.gateway["s3"].service_name == "com.amazonaws.eu-central-1.s3"
    error_message = "The endpoint's service is the region's."
  }

  assert {
    condition     = length(setsubtract(["ecr.api", "ecr.dkr", "logs", "secretsmanager", "sts"], keys(aws_vpc_endpoint.interface))) == 0
    error_message = "The services every node and task needs have interface endpoints."
  }

  assert {
    condition = alltrue([
      for endpoint in aws_vpc_endpoint.interface : endpoint.private_dns_enabled && length(endpoint.subnet_ids) == 3 &&
      tolist(endpoint.security_group_ids)[0] == aws_security_group.endpoints.id
    ])
    error_message = "Interface endpoints answer to the services' own names, in every zone, behind their security group."
  }

  assert {
    condition = (
      aws_vpc_security_group_ingress_rule.endpoints.cidr_ipv4 == "10.20.0.0/16" &&
      aws_vpc_security_group_ingress_rule.endpoints.from_port == 443 &&
      aws_vpc_security_group_ingress_rule.endpoints.to_port == 443 &&
      aws_vpc_security_group_ingress_rule.endpoints.ip_protocol == "tcp"
    )
    error_message = "Interface endpoints take HTTPS from the VPC only."
  }

  assert {
    condition = (
      aws_flow_log.this.traffic_type == "ALL" && aws_flow_log.this.log_destination == aws_cloudwatch_log_group.flow_logs.arn &&
      aws_flow_log.this.iam_role_arn == aws_iam_role.flow_logs.arn
    )
    error_message = "All traffic is logged to the log group, with the role made for it."
  }

  assert {
    condition = (
      aws_cloudwatch_log_group.flow_logs.kms_key_id == var.kms_key_arn && aws_cloudwatch_log_group.flow_logs.retention_in_days == 90 &&
      output.flow_log_group_name == "/aws/vpc/ml-platform-test-flow-logs"
    )
    error_message = "The flow logs are encrypted and kept for 90 days."
  }

  assert {
    condition     = aws_iam_role.flow_logs.name == "ml-platform-test-vpc-flow-logs" && aws_iam_role.flow_logs.permissions_boundary == null
    error_message = "The role has the prefix and, unasked, no boundary."
  }

  assert {
    condition = (
      output.private_subnet_ids == [for zone in var.availability_zones : aws_subnet.private[zone].id] &&
      output.public_subnet_ids == [for zone in var.availability_zones : aws_subnet.public[zone].id] &&
      output.private_route_table_ids == [for zone in var.availability_zones : aws_route_table.private[zone].id]
    )
    error_message = "Outputs keep the order of the zones."
  }

  assert {
    condition     = output.nat_public_ips == [aws_eip.nat["eu-central-1a"].public_ip]
    error_message = "The NAT gateway's address is an output."
  }

  assert {
    condition     = output.vpc_id == aws_vpc.this.id && output.endpoint_security_group_id == aws_security_group.endpoints.id
    error_message = "The VPC and the endpoints' security group are outputs."
  }
}

run "one_nat_gateway_per_zone" {
  command = apply

  variables {
    single_nat_gateway = false
  }

  assert {
    condition     = tolist(keys(aws_nat_gateway.this)) == var.availability_zones
    error_message = "Each zone has its NAT gateway."
  }

  assert {
    condition = alltrue([
      for zone, route in aws_route.nat : route.nat_gateway_id == aws_nat_gateway.this[zone].id &&
      aws_nat_gateway.this[zone].subnet_id == aws_subnet.public[zone].id
    ])
    error_message = "Traffic stays in its zone."
  }

  assert {
    condition     = length(output.nat_public_ips) == 3
    error_message = "All addresses are outputs."
  }
}

run "two_zones_in_another_network" {
  command = plan

  variables {
    cidr               = "172.16.32.0/19"
    availability_zones = ["eu-central-1b", "eu-central-1a"]
  }

  assert {
    condition     = aws_subnet.private["eu-central-1b"].cidr_block == "172.16.32.0/23" && aws_subnet.private["eu-central-1a"].cidr_block == "172.16.34.0/23"
    error_message = "The address plan scales with the VPC and follows the order of the zones."
  }

  assert {
    condition     = aws_subnet.public["eu-central-1b"].cidr_block == "172.16.62.0/27" && aws_subnet.public["eu-central-1a"].cidr_block == "172.16.62.32/27"
    error_message = "The smallest public subnets are /27, what a load balancer needs."
  }

  assert {
    condition     = keys(aws_nat_gateway.this) == ["eu-central-1b"]
    error_message = "The single NAT gateway lies in the first zone of the list."
  }

  assert {
    condition     = aws_vpc_security_group_ingress_rule.endpoints.cidr_ipv4 == "172.16.32.0/19"
    error_message = "The endpoints take traffic of this VPC."
  }
}

run "a_zone_is_appended" {
  command = plan

  variables {
    availability_zones = ["eu-central-1a", "eu-central-1b"]
  }

  assert {
    condition     = [for zone in var.availability_zones : aws_subnet.private[zone].cidr_block] == ["10.20.0.0/20", "10.20.16.0/20"]
    error_message = "Two zones have the networks that they keep when a third comes."
  }
}

run "no_interface_endpoints" {
  command = plan

  variables {
    interface_endpoints = []
  }

  assert {
    condition     = length(aws_vpc_endpoint.interface) == 0 && length(aws_vpc_endpoint.gateway) == 2
    error_message = "Only what costs goes."
  }

  assert {
    condition     = aws_security_group.endpoints.name == "ml-platform-test-endpoints"
    error_message = "The endpoints' security group stays, so that references to it hold."
  }
}

run "flow_logs_of_refused_traffic" {
  command = plan

  variables {
    flow_log_retention_days  = 7
    flow_log_traffic_type    = "REJECT"
    permissions_boundary_arn = "arn:aws:iam::123456789012:policy/ml-platform-boundary"
  }

  assert {
    condition     = aws_flow_log.this.traffic_type == "REJECT" && aws_cloudwatch_log_group.flow_logs.retention_in_days == 7
    error_message = "What is logged and for how long is a choice."
  }

  assert {
    condition     = aws_iam_role.flow_logs.permissions_boundary == "arn:aws:iam::123456789012:policy/ml-platform-boundary"
    error_message = "The role has the boundary."
  }
}

run "networks_that_do_not_overlap" {
  command = plan

  variables {
    peer_cidrs = ["10.21.0.0/16", "10.16.0.0/14", "10.19.255.0/24", "192.168.0.0/16", "172.16.0.0/12"]
  }

  assert {
    condition     = aws_vpc.this.cidr_block == "10.20.0.0/16"
    error_message = "Neighbours, however near, are allowed."
  }
}

run "zones_of_another_region" {
  command = plan

  variables {
    availability_zones = ["us-east-1a", "us-east-1b"]
  }

  expect_failures = [aws_vpc.this]
}
