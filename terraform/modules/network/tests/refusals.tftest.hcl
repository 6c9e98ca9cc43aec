# Each value here must be refused by its variable, before anything is asked or made.

mock_provider "aws" {
  source = "../../testing/mocks"
}

variables {
  name               = "ml-platform-test"
  availability_zones = ["us-east-1a", "us-east-1b", "us-east-1c"]
  kms_key_arn        = "arn:aws:kms:eu-central-1:123456789012:key/11111111-2222-3333-4444-555555555555"
}

run "one_zone" {
  command = plan

  variables {
    availability_zones = ["eu-central-1a"]
  }

  expect_failures = [var.availability_zones]
}

run "four_zones" {
  command = plan

  variables {
    availability_zones = ["us-east-1a", "us-east-1b", "us-east-1c", "us-east-1d"]
  }

  expect_failures = [var.availability_zones]
}

run "a_zone_twice" {
  command = plan

  variables {
    availability_zones = ["eu-central-1a", "eu-central-1a"]
  }

  expect_failures = [var.availability_zones]
}

run "a_region_as_zone" {
  command = plan

  variables {
    availability_zones = ["eu-central-1", "eu-central-1b"]
  }

  expect_failures = [var.availability_zones]
}

run "a_local_zone" {
  command = plan

  variables {
    availability_zones = ["us-west-2a", "us-west-2-lax-1a"]
  }

  expect_failures = [var.availability_zones]
}

run "cidr_no_network" {
  command = plan

  variables {
    cidr = "10.20.0.0"
  }

  expect_failures = [var.cidr]
}

run "cidr_octet_too_large" {
  command = plan

  variables {
    cidr = "10.256.0.0/16"
  }

  expect_failures = [var.cidr]
}

run "cidr_ipv6" {
  command = plan

  variables {
    cidr = "fd00::/16"
  }

  expect_failures = [var.cidr]
}

run "cidr_not_at_its_start" {
  command = plan

  variables {
    cidr = "10.20.1.0/16"
  }

  expect_failures = [var.cidr]
}

run "cidr_too_large" {
  command = plan

  variables {
    cidr = "10.20.0.0/15"
  }

  expect_failures = [var.cidr]
}

run "cidr_too_small" {
  command = plan

  variables {
    cidr = "10.20.0.0/20"
  }

  expect_failures = [var.cidr]
}

run "cidr_public" {
  command = plan

  variables {
    cidr = "8.8.0.0/16"
  }

  expect_failures = [var.cidr]
}

run "cidr_public_beside_a_private_range" {
  command = plan

  variables {
    cidr = "172.32.0.0/16"
  }

  expect_failures = [var.cidr]
}

run "cidr_of_docker" {
  command = plan

  variables {
    cidr = "172.17.0.0/16"
  }

  expect_failures = [var.cidr]
}

run "flow_log_retention_unknown" {
  command = plan

  variables {
    flow_log_retention_days = 45
  }

  expect_failures = [var.flow_log_retention_days]
}

run "flow_log_traffic_unknown" {
  command = plan

  variables {
    flow_log_traffic_type = "NONE"
  }

  expect_failures = [var.flow_log_traffic_type]
}

run "endpoint_by_full_name" {
  command = plan

  variables {
    interface_endpoints = ["com.amazonaws.eu-central-1.sts"]
  }

  expect_failures = [var.interface_endpoints]
}

run "endpoint_with_odd_letters" {
  command = plan

  variables {
    interface_endpoints = ["ECR API"]
  }

  expect_failures = [var.interface_endpoints]
}

run "endpoint_twice" {
  command = plan

  variables {
    interface_endpoints = ["sts", "sts"]
  }

  expect_failures = [var.interface_endpoints]
}

run "endpoint_that_has_a_gateway" {
  command = plan

  variables {
    interface_endpoints = ["s3"]
  }

  expect_failures = [var.interface_endpoints]
}

run "key_by_alias" {
  command = plan

  variables {
    kms_key_arn = "arn:aws:kms:eu-central-1:123456789012:alias/ml-platform-test"
  }

  expect_failures = [var.kms_key_arn]
}

run "name_too_long" {
  command = plan

  variables {
    name = "ml-platform-with-a-name-that-is-too-long"
  }

  expect_failures = [var.name]
}

run "name_with_capitals" {
  command = plan

  variables {
    name = "ML-Platform"
  }

  expect_failures = [var.name]
}

run "peer_no_network" {
  command = plan

  variables {
    peer_cidrs = ["office"]
  }

  expect_failures = [var.peer_cidrs]
}

run "peer_is_the_same" {
  command = plan

  variables {
    peer_cidrs = ["10.20.0.0/16"]
  }

  expect_failures = [var.peer_cidrs]
}

run "peer_lies_inside" {
  command = plan

  variables {
    peer_cidrs = ["10.30.0.0/16", "10.20.255.0/24"]
  }

  expect_failures = [var.peer_cidrs]
}

run "peer_lies_around" {
  command = plan

  variables {
    peer_cidrs = ["10.0.0.0/8"]
  }

  expect_failures = [var.peer_cidrs]
}

run "peer_is_everything" {
  command = plan

  variables {
    peer_cidrs = ["0.0.0.0/0"]
  }

  expect_failures = [var.peer_cidrs]
}

run "boundary_is_a_role" {
  command = plan

  variables {
    permissions_boundary_arn = "arn:aws:iam::123456789012:role/admin"
  }

  expect_failures = [var.permissions_boundary_arn]
}
