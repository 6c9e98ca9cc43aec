# Each value here must be refused by its variable, before anything is asked or made.

mock_provider "aws" {
  source = "../../testing/mocks"
}

variables {
  name                 = "ml-platform-test"
  vpc_id               = "vpc-0123456789abcdef0"
  private_subnet_ids   = ["subnet-0000000000000000a", "subnet-0000000000000000b"]
  kms_key_arn          = "arn:aws:kms:eu-central-1:123456789012:key/00000000-0000-0000-0000-000000000000"
  admin_role_arns      = ["arn:aws:iam::123456789012:role/admin"]
  airflow_role_arn     = "arn:aws:iam::123456789012:role/ml-platform-test-airflow"
  serving_role_arn     = "arn:aws:iam::123456789012:role/ml-platform-test-serving"
  studies_user_arn     = "arn:aws:rds-db:us-east-1:123456789012:dbuser:db-ABCDEFGHIJKL/studies"
  endpoint_name_prefix = "ml-platform-test"
  buckets = {
    landing   = { name = "ml-platform-test-landing-1", arn = "arn:aws:s3:::ml-platform-test-landing-1" }
    data      = { name = "ml-platform-test-data-1", arn = "arn:aws:s3:::ml-platform-test-data-1" }
    artifacts = { name = "ml-platform-test-artifacts-1", arn = "arn:aws:s3:::ml-platform-test-artifacts-1" }
  }
}

run "name_with_capitals" {
  command = plan

  variables {
    name = "ML-Platform"
  }

  expect_failures = [var.name]
}

run "name_too_long" {
  command = plan

  variables {
    name = "ml-platform-with-a-name-that-is-too-long"
  }

  expect_failures = [var.name]
}

run "kubernetes_version_v1_36" {
  command = plan

  variables {
    kubernetes_version = "v1.36"
  }

  expect_failures = [var.kubernetes_version]
}

run "kubernetes_version_1_36_1" {
  command = plan

  variables {
    kubernetes_version = "1.36.1"
  }

  expect_failures = [var.kubernetes_version]
}

run "kubernetes_version_1_31" {
  command = plan

  variables {
    kubernetes_version = "1.31"
  }

  expect_failures = [var.kubernetes_version]
}

run "kubernetes_version_latest" {
  command = plan

  variables {
    kubernetes_version = "latest"
  }

  expect_failures = [var.kubernetes_version]
}

run "one_subnet" {
  command = plan

  variables {
    private_subnet_ids = ["subnet-0000000000000000a"]
  }

  expect_failures = [var.private_subnet_ids]
}

run "four_subnets" {
  command = plan

  variables {
    private_subnet_ids = ["subnet-a", "subnet-b", "subnet-c", "subnet-d"]
  }

  expect_failures = [var.private_subnet_ids]
}

run "same_subnet_twice" {
  command = plan

  variables {
    private_subnet_ids = ["subnet-0000000000000000a", "subnet-0000000000000000a"]
  }

  expect_failures = [var.private_subnet_ids]
}

run "public_to_the_world" {
  command = plan

  variables {
    endpoint_public_access_cidrs = ["0.0.0.0/0"]
  }

  expect_failures = [var.endpoint_public_access_cidrs]
}

run "public_to_half_the_world" {
  command = plan

  variables {
    endpoint_public_access_cidrs = ["203.0.113.0/24", "128.0.0.0/1"]
  }

  expect_failures = [var.endpoint_public_access_cidrs]
}

run "public_to_the_world_by_ipv6" {
  command = plan

  variables {
    endpoint_public_access_cidrs = ["::/0"]
  }

  expect_failures = [var.endpoint_public_access_cidrs]
}

run "public_to_no_network" {
  command = plan

  variables {
    endpoint_public_access_cidrs = ["203.0.113.7"]
  }

  expect_failures = [var.endpoint_public_access_cidrs]
}

run "kms_alias" {
  command = plan

  variables {
    kms_key_arn = "arn:aws:kms:eu-central-1:123456789012:alias/ml-platform"
  }

  expect_failures = [var.kms_key_arn]
}

run "admin_user" {
  command = plan

  variables {
    admin_role_arns = ["arn:aws:iam::123456789012:user/admin"]
  }

  expect_failures = [var.admin_role_arns]
}

run "admin_session" {
  command = plan

  variables {
    admin_role_arns = ["arn:aws:sts::123456789012:assumed-role/admin/me"]
  }

  expect_failures = [var.admin_role_arns]
}

run "admin_twice" {
  command = plan

  variables {
    admin_role_arns = ["arn:aws:iam::123456789012:role/admin", "arn:aws:iam::123456789012:role/admin"]
  }

  expect_failures = [var.admin_role_arns]
}

run "airflow_as_admin" {
  command = plan

  variables {
    admin_role_arns = ["arn:aws:iam::123456789012:role/ml-platform-test-airflow"]
  }

  expect_failures = [var.admin_role_arns]
}

run "airflow_no_role" {
  command = plan

  variables {
    airflow_role_arn = "airflow"
  }

  expect_failures = [var.airflow_role_arn]
}

run "serving_no_role" {
  command = plan

  variables {
    serving_role_arn = "*"
  }

  expect_failures = [var.serving_role_arn]
}

run "studies_user_of_any_database" {
  command = plan

  variables {
    studies_user_arn = "*"
  }

  expect_failures = [var.studies_user_arn]
}

run "endpoint_prefix_with_wildcard" {
  command = plan

  variables {
    endpoint_name_prefix = "*"
  }

  expect_failures = [var.endpoint_name_prefix]
}

run "endpoint_prefix_empty" {
  command = plan

  variables {
    endpoint_name_prefix = ""
  }

  expect_failures = [var.endpoint_name_prefix]
}

run "endpoint_prefix_with_capitals" {
  command = plan

  variables {
    endpoint_name_prefix = "Flights"
  }

  expect_failures = [var.endpoint_name_prefix]
}

run "retention_unknown" {
  command = plan

  variables {
    log_retention_days = 42
  }

  expect_failures = [var.log_retention_days]
}

run "retention_for_ever" {
  command = plan

  variables {
    log_retention_days = 0
  }

  expect_failures = [var.log_retention_days]
}

run "support_unknown" {
  command = plan

  variables {
    upgrade_support_type = "FOREVER"
  }

  expect_failures = [var.upgrade_support_type]
}

run "addon_unknown" {
  command = plan

  variables {
    addon_versions = { karpenter = "v1.0.0-eksbuild.1" }
  }

  expect_failures = [var.addon_versions]
}

run "addon_version_malformed" {
  command = plan

  variables {
    addon_versions = { coredns = "latest" }
  }

  expect_failures = [var.addon_versions]
}

run "node_groups_without_type" {
  command = plan

  variables {
    system_node_group = { instance_types = [] }
    cpu_node_group    = { instance_types = [] }
    gpu_node_group    = { instance_types = [] }
  }

  expect_failures = [
    var.system_node_group,
    var.cpu_node_group,
    var.gpu_node_group,
  ]
}

run "fallback_without_type" {
  command = plan

  variables {
    gpu_fallback_node_group = { instance_types = [] }
  }

  expect_failures = [var.gpu_fallback_node_group]
}

run "node_groups_of_unknown_families" {
  command = plan

  variables {
    system_node_group = { instance_types = ["m6i.xlarge", "z9.xlarge"] }
    cpu_node_group    = { instance_types = ["m6i.xlarge", "z9.xlarge"] }
    gpu_node_group    = { instance_types = ["g5.xlarge", "z9.xlarge"] }
  }

  expect_failures = [
    var.system_node_group,
    var.cpu_node_group,
    var.gpu_node_group,
  ]
}

run "fallback_of_unknown_families" {
  command = plan

  variables {
    gpu_fallback_node_group = { instance_types = ["g5.xlarge", "z9.xlarge"] }
  }

  expect_failures = [var.gpu_fallback_node_group]
}

run "node_groups_of_arm_families" {
  command = plan

  variables {
    system_node_group = { instance_types = ["m7g.xlarge"] }
    cpu_node_group    = { instance_types = ["m7g.xlarge"] }
    gpu_node_group    = { instance_types = ["g5g.xlarge"] }
  }

  expect_failures = [
    var.system_node_group,
    var.cpu_node_group,
    var.gpu_node_group,
  ]
}

run "fallback_of_arm_families" {
  command = plan

  variables {
    gpu_fallback_node_group = { instance_types = ["g5g.xlarge"] }
  }

  expect_failures = [var.gpu_fallback_node_group]
}

run "gpus_where_none_belong_and_none_where_they_do" {
  command = plan

  variables {
    system_node_group = { instance_types = ["g5.xlarge"] }
    cpu_node_group    = { instance_types = ["g5.xlarge"] }
    gpu_node_group    = { instance_types = ["m6i.xlarge"] }
  }

  expect_failures = [
    var.system_node_group,
    var.cpu_node_group,
    var.gpu_node_group,
  ]
}

run "fallback_gpus_where_none_belong_and_none_where_they_do" {
  command = plan

  variables {
    gpu_fallback_node_group = { instance_types = ["m6i.xlarge"] }
  }

  expect_failures = [var.gpu_fallback_node_group]
}

run "families_without_size" {
  command = plan

  variables {
    system_node_group = { instance_types = ["m6i"] }
    cpu_node_group    = { instance_types = ["m6i"] }
    gpu_node_group    = { instance_types = ["g5"] }
  }

  expect_failures = [
    var.system_node_group,
    var.cpu_node_group,
    var.gpu_node_group,
  ]
}

run "fallback_families_without_size" {
  command = plan

  variables {
    gpu_fallback_node_group = { instance_types = ["g5"] }
  }

  expect_failures = [var.gpu_fallback_node_group]
}

run "maximum_below_minimum" {
  command = plan

  variables {
    system_node_group = { min_size = 3, max_size = 2 }
    cpu_node_group    = { min_size = 3, max_size = 2 }
    gpu_node_group    = { min_size = 3, max_size = 2 }
  }

  expect_failures = [
    var.system_node_group,
    var.cpu_node_group,
    var.gpu_node_group,
  ]
}

run "fallback_maximum_below_minimum" {
  command = plan

  variables {
    gpu_fallback_node_group = { min_size = 3, max_size = 2 }
  }

  expect_failures = [var.gpu_fallback_node_group]
}

run "maximum_zero" {
  command = plan

  variables {
    system_node_group = { min_size = 1, max_size = 0 }
    cpu_node_group    = { min_size = 0, max_size = 0 }
    gpu_node_group    = { min_size = 0, max_size = 0 }
  }

  expect_failures = [
    var.system_node_group,
    var.cpu_node_group,
    var.gpu_node_group,
  ]
}

run "fallback_maximum_zero" {
  command = plan

  variables {
    gpu_fallback_node_group = { min_size = 0, max_size = 0 }
  }

  expect_failures = [var.gpu_fallback_node_group]
}

run "minimum_too_small" {
  command = plan

  variables {
    system_node_group = { min_size = 0 }
    cpu_node_group    = { min_size = -1 }
    gpu_node_group    = { min_size = -1 }
  }

  expect_failures = [
    var.system_node_group,
    var.cpu_node_group,
    var.gpu_node_group,
  ]
}

run "fallback_minimum_too_small" {
  command = plan

  variables {
    gpu_fallback_node_group = { min_size = -1 }
  }

  expect_failures = [var.gpu_fallback_node_group]
}

run "disks_too_small" {
  command = plan

  variables {
    system_node_group = { disk_gib = 10 }
    cpu_node_group    = { disk_gib = 10 }
    gpu_node_group    = { disk_gib = 10 }
  }

  expect_failures = [
    var.system_node_group,
    var.cpu_node_group,
    var.gpu_node_group,
  ]
}

run "fallback_disks_too_small" {
  command = plan

  variables {
    gpu_fallback_node_group = { disk_gib = 10 }
  }

  expect_failures = [var.gpu_fallback_node_group]
}

run "disks_too_large" {
  command = plan

  variables {
    system_node_group = { disk_gib = 20000 }
    cpu_node_group    = { disk_gib = 20000 }
    gpu_node_group    = { disk_gib = 20000 }
  }

  expect_failures = [
    var.system_node_group,
    var.cpu_node_group,
    var.gpu_node_group,
  ]
}

run "fallback_disks_too_large" {
  command = plan

  variables {
    gpu_fallback_node_group = { disk_gib = 20000 }
  }

  expect_failures = [var.gpu_fallback_node_group]
}

run "capacity_types" {
  command = plan

  variables {
    cpu_node_group          = { capacity_type = "RESERVED" }
    gpu_node_group          = { capacity_type = "RESERVED" }
    gpu_fallback_node_group = null
  }

  expect_failures = [
    var.cpu_node_group,
    var.gpu_node_group,
  ]
}

run "odd_numbers_of_gpus" {
  command = plan

  variables {
    gpu_node_group = { gpus_per_node = 3 }
  }

  expect_failures = [
    var.gpu_node_group,
  ]
}

run "fallback_odd_numbers_of_gpus" {
  command = plan

  variables {
    gpu_fallback_node_group = { gpus_per_node = 3 }
  }

  expect_failures = [var.gpu_fallback_node_group]
}

run "fallback_from_on_demand" {
  command = plan

  variables {
    gpu_node_group = { capacity_type = "ON_DEMAND" }
  }

  expect_failures = [var.gpu_fallback_node_group]
}

run "fallback_from_no_gpus" {
  command = plan

  variables {
    gpu_node_group = null
  }

  expect_failures = [var.gpu_fallback_node_group]
}

run "everybody_as_a_client" {
  command = plan

  variables {
    client_cidrs = ["0.0.0.0/0"]
  }

  expect_failures = [var.client_cidrs]
}

run "an_address_inside_of_a_client_network" {
  command = plan

  variables {
    client_cidrs = ["10.0.0.1/16"]
  }

  expect_failures = [var.client_cidrs]
}
