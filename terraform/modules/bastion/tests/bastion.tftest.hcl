mock_provider "aws" {
  source = "../../testing/mocks"

  mock_data "aws_ssm_parameter" {
    defaults = { insecure_value = "ami-0123456789abcdef0" }
  }
  mock_resource "aws_security_group" {
    defaults = { id = "sg-0123456789abcdef0" }
  }
  mock_resource "aws_instance" {
    defaults = { id = "i-0123456789abcdef0" }
  }
}

variables {
  name      = "ml-platform-test"
  vpc_id    = "vpc-1"
  subnet_id = "subnet-a"
}

run "nobody_can_reach_it" {
  command = apply

  assert {
    condition = (
      aws_instance.this.associate_public_ip_address == false && aws_instance.this.subnet_id == "subnet-a" &&
      aws_instance.this.vpc_security_group_ids == toset([aws_security_group.this.id])
    )
    error_message = "It is in a private subnet, without a public address, in a security group of its own."
  }
  assert {
    condition = (
      aws_instance.this.metadata_options[0].http_tokens == "required" &&
      aws_instance.this.metadata_options[0].http_put_response_hop_limit == 1 &&
      aws_instance.this.root_block_device[0].encrypted
    )
    error_message = "Its credentials are its own, and its disk is encrypted."
  }
  assert {
    condition     = aws_instance.this.ami == "ami-0123456789abcdef0" && aws_instance.this.instance_type == "t4g.nano"
    error_message = "It is the smallest there is, with AWS's newest image."
  }
  assert {
    condition     = output.instance_id == "i-0123456789abcdef0" && output.security_group_id == "sg-0123456789abcdef0"
    error_message = "Others can refer to it."
  }

  # --- What it reaches

  assert {
    condition     = [for rule in aws_vpc_security_group_egress_rule.https : "${rule.cidr_ipv4} ${rule.from_port}-${rule.to_port}"] == ["0.0.0.0/0 443-443"]
    error_message = "Without endpoints in the VPC it reaches Systems Manager through NAT, on 443 only."
  }
  assert {
    condition     = length(aws_vpc_security_group_egress_rule.http) == 0
    error_message = "Plain HTTP is for whoever is named."
  }
}

run "it_may_be_kept_inside_of_the_vpc" {
  command = plan

  variables {
    https_egress_cidrs      = ["10.20.0.0/16"]
    http_security_group_ids = { mlflow = "sg-00000000000000001" }
  }

  assert {
    condition     = keys(aws_vpc_security_group_egress_rule.https) == ["10.20.0.0/16"]
    error_message = "Nothing outside of the VPC is needed."
  }
  assert {
    condition = (
      aws_vpc_security_group_egress_rule.http["mlflow"].referenced_security_group_id == "sg-00000000000000001" &&
      aws_vpc_security_group_egress_rule.http["mlflow"].to_port == 80
    )
    error_message = "Plain HTTP goes to the named group only."
  }
}
