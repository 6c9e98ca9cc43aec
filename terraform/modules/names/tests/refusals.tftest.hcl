variables {
  name            = "ml-platform"
  region          = "eu-central-1"
  region_in_names = true
}

run "refuses_one_word" {
  command         = plan
  expect_failures = [var.name]
  variables {
    name = "ml"
  }
}

run "refuses_three_words" {
  command         = plan
  expect_failures = [var.name]
  variables {
    name = "ml-platform-2"
  }
}

run "refuses_long_name" {
  command         = plan
  expect_failures = [var.name]
  variables {
    name = "machine-learning"
  }
}

run "refuses_long_region" {
  command         = plan
  expect_failures = [var.region]
  variables {
    region = "eu-central-10000"
  }
}
