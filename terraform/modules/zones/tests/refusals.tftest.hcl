# Each value here must be refused by its variable, before anything is asked or made.

mock_provider "aws" {
  source = "../../testing/mocks"
}

variables {
  zones          = 2
  instance_types = { system = ["t3.large"] }
}

run "four_zones" {
  command = plan

  variables {
    zones = 4
  }

  expect_failures = [var.zones]
}
