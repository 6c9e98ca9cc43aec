# Each value here must be refused by its variable, before anything is asked or made.

mock_provider "aws" {
  source = "../../testing/mocks"
}

variables {
  name      = "ml-platform-test"
  vpc_id    = "vpc-1"
  subnet_id = "subnet-a"
}

run "the_image_needs_its_room" {
  command = plan

  variables {
    disk_gib = 4
  }

  expect_failures = [var.disk_gib]
}

run "it_has_to_reach_systems_manager" {
  command = plan

  variables {
    https_egress_cidrs = []
  }

  expect_failures = [var.https_egress_cidrs]
}

run "another_processor_is_refused" {
  command = plan

  variables {
    instance_type = "t3.nano"
  }

  expect_failures = [var.instance_type]
}
