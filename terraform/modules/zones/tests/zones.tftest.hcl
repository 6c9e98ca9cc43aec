# The account: a is use1-az6, b is use1-az4, c is use1-az3, d is use1-az1, and e, use1-az2, has none of the instance
# types.

mock_provider "aws" {
  source = "../../testing/mocks"
}

# The same account when AWS has opened another zone, the first in the order, and has no more instances in d.
mock_provider "aws" {
  alias = "years_later"

  mock_data "aws_availability_zones" {
    defaults = {
      names    = ["us-east-1a", "us-east-1b", "us-east-1c", "us-east-1e", "us-east-1f"]
      zone_ids = ["use1-az6", "use1-az4", "use1-az3", "use1-az2", "use1-az0"]
    }
  }

  mock_data "aws_ec2_instance_type_offerings" {
    defaults = { locations = ["us-east-1a", "us-east-1b", "us-east-1f"] }
  }
}

variables {
  zones          = 2
  instance_types = { system = ["t3.large", "t3a.large"], gpu = ["g4dn.xlarge"] }
}

run "zones_are_chosen_by_what_they_have" {
  assert {
    condition     = output.availability_zones == tolist(["us-east-1d", "us-east-1b"])
    error_message = "The first two zones by id must be taken that have everything: not c, where EKS makes no control plane, nor e."
  }
}

run "the_choice_stays" {
  command   = plan
  providers = { aws = aws.years_later }

  assert {
    condition     = local.usable_zones == ["us-east-1f", "us-east-1b", "us-east-1a"]
    error_message = "A choice of today must be another one, or this shows nothing."
  }

  assert {
    condition     = output.availability_zones == tolist(["us-east-1d", "us-east-1b"])
    error_message = "A network that is there must stay where it is."
  }
}

run "a_third_zone_comes_last" {
  command   = plan
  providers = { aws = aws.years_later }

  variables {
    zones = 3
  }

  assert {
    condition     = output.availability_zones == tolist(["us-east-1d", "us-east-1b", "us-east-1a"])
    error_message = "A third zone must be the next of the list that was kept."
  }
}

run "zones_by_name" {
  command = plan

  variables {
    availability_zones = ["us-east-1e", "us-east-1a"]
  }

  assert {
    condition     = output.availability_zones == tolist(["us-east-1e", "us-east-1a"])
    error_message = "Whoever names zones gets them, in that order."
  }
}

run "a_zone_by_name_that_eks_refuses" {
  command = plan

  variables {
    availability_zones = ["us-east-1a", "us-east-1c"]
  }

  expect_failures = [terraform_data.zones]
}
