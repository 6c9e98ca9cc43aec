# What the composition itself decides; the parts have tests of their own, and the environments' plans too.

mock_provider "aws" {
  source = "../../testing/mocks"
}

variables {
  environment         = "dev"
  region              = "us-east-1"
  deletion_protection = false
  runbook_base_url    = "https://example.com/runbooks"
  log_retention_days  = 14

  images = {
    deployer     = "123456789012.dkr.ecr.us-east-1.amazonaws.com/ml-platform/deployer@sha256:0000000000000000000000000000000000000000000000000000000000000000"
    mlflow       = "123456789012.dkr.ecr.us-east-1.amazonaws.com/ml-platform/mlflow@sha256:0000000000000000000000000000000000000000000000000000000000000000"
    serving      = "123456789012.dkr.ecr.us-east-1.amazonaws.com/ml-platform/serving@sha256:0000000000000000000000000000000000000000000000000000000000000000"
    trainer      = "123456789012.dkr.ecr.us-east-1.amazonaws.com/ml-platform/trainer@sha256:0000000000000000000000000000000000000000000000000000000000000000"
    trainer_cuda = "123456789012.dkr.ecr.us-east-1.amazonaws.com/ml-platform/trainer-cuda@sha256:0000000000000000000000000000000000000000000000000000000000000000"
  }

  network = { cidr = "10.20.0.0/16", zones = 2, single_nat_gateway = true, interface_endpoints = [] }

  cluster = {
    kubernetes_version = "1.36"
    system             = { instance_types = ["t3.large"], min_size = 2, max_size = 3 }
    cpu                = { instance_types = ["m6i.xlarge"], max_size = 4, spot = true }
    gpu                = { instance_types = ["g4dn.xlarge"], max_size = 2, on_demand_max_size = 1 }
  }

  airflow = { environment_class = "mw1.micro", min_workers = 1, max_workers = 1, schedulers = 1 }

  mlflow = {
    allow_http              = true
    database_class          = "db.t4g.micro"
    database_storage_gib    = 20
    database_multi_az       = false
    backup_retention_days   = 1
    final_database_snapshot = false
    task_cpu                = 512
    task_memory             = 1024
    min_tasks               = 1
    max_tasks               = 1
  }

  endpoints = { flights = { instance_type = "ml.t2.medium", instance_count = 1, max_instance_count = 1 } }

  budget = {
    monthly_limit_usd = 900
    shutdown          = { stop = "cron(0 20 ? * MON-FRI *)", start = "cron(0 7 ? * MON-FRI *)" }
  }
}

run "everything_carries_the_environments_name" {
  command = plan

  assert {
    condition     = output.name == "ml-platform-dev" && output.cluster_name == "ml-platform-dev"
    error_message = "Names must begin with ml-platform-<environment>."
  }
  assert {
    condition     = length(module.bastion) == 0 && output.bastion_instance_id == null
    error_message = "Nobody has asked for a bastion."
  }

  assert {
    condition     = local.owners == { flights = "ml-platform" }
    error_message = "A dataset's owner is the one its file names."
  }
  assert {
    condition     = output.endpoint_names == { flights = "ml-platform-dev-flights" }
    error_message = "An endpoint is called after its dataset: that is how the pipeline finds it."
  }
}

run "another_name_goes_through_everything" {
  command = plan

  variables {
    name = "acme-ml"
  }

  assert {
    condition     = output.name == "acme-ml-dev" && output.endpoint_names == { flights = "acme-ml-dev-flights" }
    error_message = "Names must begin with <name>-<environment>."
  }
  assert {
    condition     = output.buckets["data"] == "acme-ml-dev-data-123456789012-us-east-1"
    error_message = "A bucket's name is the world's: it carries account and region."
  }
}

run "names_stay_as_they_were" {
  command = plan

  variables {
    region_in_names = false
  }

  assert {
    condition     = output.buckets["data"] == "ml-platform-dev-data-123456789012"
    error_message = "Buckets that hold data keep the names they were made with."
  }
}

run "production_may_be_unprotected_by_name_only" {
  command = plan

  variables {
    environment                  = "prod"
    allow_unprotected_production = true
  }
}

run "a_bastion_is_there_only_where_it_is_asked_for" {
  command = plan

  variables {
    bastion = { instance_type = "t4g.nano" }
  }

  assert {
    condition     = length(module.bastion) == 1
    error_message = "It was asked for."
  }
}

run "spark_is_there_only_where_it_is_asked_for" {
  command = plan

  variables {
    spark = { maximum_vcpu = 16, maximum_memory_gib = 64 }
  }

  assert {
    condition     = length(module.preparation) == 1
    error_message = "It was asked for."
  }
}
