variables {
  name            = "ml-platform"
  environment     = "dev"
  region          = "eu-central-1"
  region_in_names = true
}

run "of_an_environment" {
  command = plan

  assert {
    condition     = output.name == "ml-platform-dev" && output.global_name == "ml-platform-dev-eu-central-1"
    error_message = "What the account has once carries the region."
  }
  assert {
    condition     = output.region_suffix == "-eu-central-1"
    error_message = "A bucket's name ends with the region."
  }
}

run "of_what_all_environments_share" {
  command = plan

  variables {
    environment = null
  }

  assert {
    condition     = output.name == "ml-platform" && output.global_name == "ml-platform-eu-central-1"
    error_message = "There is no environment in it."
  }
}

run "as_they_were_before_the_region_was_in_them" {
  command = plan

  variables {
    region_in_names = false
  }

  assert {
    condition     = output.global_name == output.name && output.region_suffix == ""
    error_message = "Names that were given stay as they are."
  }
}
