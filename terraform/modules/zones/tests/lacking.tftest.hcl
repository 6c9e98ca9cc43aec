# Zones that lack something.

mock_provider "aws" {
  source = "../../testing/mocks"
}

variables {
  zones          = 2
  instance_types = { system = ["t3.large", "t3a.large"], gpu = ["g4dn.xlarge"] }
}

run "a_private_endpoint" {
  command = plan

  variables {
    interface_endpoints = ["ecr.api", "sts"]
  }

  override_data {
    target = data.aws_vpc_endpoint_service.private["sts"]
    values = { availability_zones = ["us-east-1a", "us-east-1b", "us-east-1c", "us-east-1e"] }
  }

  assert {
    condition     = output.availability_zones == tolist(["us-east-1b", "us-east-1a"])
    error_message = "A zone without one of the private endpoints must be passed over."
  }
}

run "one_kind_of_node" {
  command = plan

  override_data {
    target = data.aws_ec2_instance_type_offerings.nodes["gpu"]
    values = { locations = ["us-east-1a", "us-east-1b"] }
  }

  assert {
    condition     = output.availability_zones == tolist(["us-east-1b", "us-east-1a"])
    error_message = "A zone without the types of one node group must be passed over."
  }
}

run "more_are_wanted_than_there_are" {
  command = plan

  variables {
    zones = 3
  }

  override_data {
    target = data.aws_ec2_instance_type_offerings.nodes["gpu"]
    values = { locations = ["us-east-1a", "us-east-1b"] }
  }

  expect_failures = [terraform_data.zones]
}
