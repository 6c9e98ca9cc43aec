# The parts, wired together. What connects them is here and nowhere else; what each is, is in its own module.

data "aws_caller_identity" "current" {}

locals {
  name    = module.names.name
  account = data.aws_caller_identity.current.account_id

  gpu_fallback_size = try(var.cluster.gpu.on_demand_max_size, 0)

  # People's ways in, beside those of the platform's own parts.
  client_security_group_ids = merge(
    var.private_client_security_group_ids,
    { for bastion in module.bastion : "bastion" => bastion.security_group_id },
  )

  # A dataset whose file is not there yet has an endpoint, but no owner.
  models = "${path.module}/../../../config/models"
  owners = {
    for dataset in keys(var.endpoints) : dataset => yamldecode(file("${local.models}/${dataset}.yaml")).owner
    if fileexists("${local.models}/${dataset}.yaml")
  }
}

module "names" {
  source = "../names"

  name            = var.name
  environment     = var.environment
  region          = var.region
  region_in_names = var.region_in_names
}

module "storage" {
  source = "../storage"

  name                = local.name
  bucket_suffix       = "${local.account}${module.names.region_suffix}"
  deletion_protection = var.deletion_protection

  # Late labels and refused files are no news for who waits for data.
  landing_event_prefixes = [for dataset in keys(var.endpoints) : "${dataset}/"]
}

module "zones" {
  source = "../zones"

  zones               = var.network.zones
  availability_zones  = var.availability_zones
  interface_endpoints = var.network.interface_endpoints
  instance_types = merge(
    { system = var.cluster.system.instance_types, cpu = var.cluster.cpu.instance_types },
    { for gpu in var.cluster.gpu[*] : "gpu" => gpu.instance_types },
    { for bastion in var.bastion[*] : "bastion" => [bastion.instance_type] },
  )
}

module "network" {
  source = "../network"

  name                     = local.name
  global_name              = module.names.global_name
  cidr                     = var.network.cidr
  availability_zones       = module.zones.availability_zones
  single_nat_gateway       = var.network.single_nat_gateway
  interface_endpoints      = var.network.interface_endpoints
  peer_cidrs               = var.network.peer_cidrs
  flow_log_retention_days  = var.log_retention_days
  kms_key_arn              = module.storage.kms_key_arn
  permissions_boundary_arn = var.permissions_boundary_arn
}

module "bastion" {
  source = "../bastion"
  count  = var.bastion == null ? 0 : 1

  name                     = local.name
  global_name              = module.names.global_name
  instance_type            = var.bastion.instance_type
  vpc_id                   = module.network.vpc_id
  subnet_id                = module.network.private_subnet_ids[0]
  permissions_boundary_arn = var.permissions_boundary_arn

  # Where Systems Manager has endpoints in the VPC, nothing outside of it is needed.
  https_egress_cidrs = (
    length(setsubtract(["ssm", "ssmmessages"], var.network.interface_endpoints)) == 0 ? [var.network.cidr] : ["0.0.0.0/0"]
  )
  http_security_group_ids = var.mlflow.allow_http ? { mlflow = module.mlflow.security_group_id } : {}
}

module "cluster" {
  source = "../cluster"

  name                         = local.name
  global_name                  = module.names.global_name
  kubernetes_version           = var.cluster.kubernetes_version
  vpc_id                       = module.network.vpc_id
  private_subnet_ids           = module.network.private_subnet_ids
  kms_key_arn                  = module.storage.kms_key_arn
  endpoint_public_access_cidrs = var.cluster.endpoint_public_access_cidrs
  admin_role_arns              = var.admin_role_arns
  airflow_role_arn             = module.airflow.execution_role_arn
  buckets                      = module.storage.buckets
  endpoint_name_prefix         = local.name
  serving_role_arn             = module.serving.execution_role_arn
  studies_user_arn             = module.mlflow.studies_user_arn
  spark = var.spark == null ? null : {
    application_arn    = module.preparation[0].application_arn
    execution_role_arn = module.preparation[0].execution_role_arn
  }
  permissions_boundary_arn = var.permissions_boundary_arn
  log_retention_days       = var.log_retention_days
  tags                     = var.tags

  system_node_group = {
    instance_types = var.cluster.system.instance_types
    min_size       = var.cluster.system.min_size
    max_size       = var.cluster.system.max_size
    disk_gib       = var.cluster.system.disk_gib
  }

  cpu_node_group = {
    instance_types = var.cluster.cpu.instance_types
    capacity_type  = var.cluster.cpu.spot ? "SPOT" : "ON_DEMAND"
    min_size       = 0
    max_size       = var.cluster.cpu.max_size
    disk_gib       = var.cluster.cpu.disk_gib
  }

  gpu_node_group = var.cluster.gpu == null ? null : {
    instance_types = var.cluster.gpu.instance_types
    capacity_type  = "SPOT"
    min_size       = 0
    max_size       = var.cluster.gpu.max_size
    disk_gib       = var.cluster.gpu.disk_gib
    gpus_per_node  = var.cluster.gpu.gpus_per_node
  }

  gpu_fallback_node_group = local.gpu_fallback_size == 0 ? null : {
    instance_types = var.cluster.gpu.instance_types
    min_size       = 0
    max_size       = local.gpu_fallback_size
    disk_gib       = var.cluster.gpu.disk_gib
    gpus_per_node  = var.cluster.gpu.gpus_per_node
  }

  client_cidrs              = var.private_client_cidrs
  client_security_group_ids = merge(local.client_security_group_ids, { airflow = module.airflow.security_group_id })
}

module "airflow" {
  source = "../airflow"

  name                     = local.name
  global_name              = module.names.global_name
  airflow_version          = var.airflow.version
  environment_class        = var.airflow.environment_class
  min_workers              = var.airflow.min_workers
  max_workers              = var.airflow.max_workers
  schedulers               = var.airflow.schedulers
  webserver_access_mode    = var.airflow.webserver_access_mode
  configuration_options    = var.airflow.configuration_options
  vpc_id                   = module.network.vpc_id
  private_subnet_ids       = module.network.private_subnet_ids
  kms_key_arn              = module.storage.kms_key_arn
  dags_bucket              = module.storage.buckets["dags"]
  buckets                  = module.storage.buckets
  dags_path                = "${path.module}/../../../dags"
  wheels_path              = "${path.module}/../../../.local/mwaa"
  http_egress_cidrs        = var.mlflow.allow_http ? [var.network.cidr] : []
  smtp_egress_cidrs        = var.airflow.smtp_egress_cidrs
  topic_arn                = module.observability.notifications_topic_arn
  log_retention_days       = var.log_retention_days
  permissions_boundary_arn = var.permissions_boundary_arn

  client_cidrs              = var.private_client_cidrs
  client_security_group_ids = local.client_security_group_ids

  cluster = {
    name                  = module.cluster.cluster_name
    arn                   = module.cluster.cluster_arn
    endpoint              = module.cluster.cluster_endpoint
    certificate_authority = module.cluster.cluster_certificate_authority
  }

  # The facts of this platform, as the DAGs read them: `Settings` in dags/mlplatform/config/environment.py.
  platform = {
    environment   = var.environment
    project       = var.name
    git_sha       = var.git_sha
    aws           = { region = var.region, account_id = local.account }
    buckets       = { for purpose in ["landing", "data", "artifacts"] : purpose => module.storage.buckets[purpose].name }
    kubernetes    = { kubeconfig = "kubeconfig", context = module.cluster.cluster_name, gpus = var.cluster.gpu != null }
    images        = { for name in ["trainer", "trainer_cuda", "deployer", "serving"] : name => var.images[name] }
    mlflow        = { tracking_uri = module.mlflow.tracking_uri }
    notifications = { topic_arn = module.observability.notifications_topic_arn }
    preparation = var.spark == null ? {} : {
      spark = {
        application_id     = module.preparation[0].application_id
        execution_role_arn = module.preparation[0].execution_role_arn
      }
    }
    training = {
      study_database = { host = module.mlflow.database_address, name = module.mlflow.studies_database }
    }
    serving = {
      execution_role_arn = module.serving.execution_role_arn
      endpoint_name      = "${local.name}-{dataset}"
      kms_key_arn        = module.storage.kms_key_arn
      local_disk_types   = module.serving.local_disk_types
      capture            = { uri = module.serving.capture_uri }
      network_isolation  = module.serving.container_network.isolation
      vpc                = module.serving.container_network.vpc
      alarms             = module.serving.alarm_names
    }
  }
}

module "preparation" {
  source = "../preparation"
  count  = var.spark == null ? 0 : 1

  name                     = local.name
  global_name              = module.names.global_name
  vpc_id                   = module.network.vpc_id
  private_subnet_ids       = module.network.private_subnet_ids
  kms_key_arn              = module.storage.kms_key_arn
  data_bucket              = module.storage.buckets["data"]
  maximum_vcpu             = var.spark.maximum_vcpu
  maximum_memory_gib       = var.spark.maximum_memory_gib
  permissions_boundary_arn = var.permissions_boundary_arn
}

module "mlflow" {
  source = "../mlflow"

  name                        = local.name
  global_name                 = module.names.global_name
  image                       = var.images.mlflow
  vpc_id                      = module.network.vpc_id
  private_subnet_ids          = module.network.private_subnet_ids
  kms_key_arn                 = module.storage.kms_key_arn
  artifacts_bucket            = module.storage.buckets["artifacts"]
  logs_bucket                 = module.storage.buckets["logs"]
  allow_http                  = var.mlflow.allow_http
  certificate_arn             = var.mlflow.certificate_arn
  domain_name                 = var.mlflow.domain_name
  restore_snapshot_identifier = var.mlflow.restore_snapshot

  load_balancer_deletion_protection = var.deletion_protection

  log_retention_days       = var.log_retention_days
  permissions_boundary_arn = var.permissions_boundary_arn

  client_cidrs = var.private_client_cidrs
  client_security_group_ids = merge(local.client_security_group_ids, {
    airflow = module.airflow.security_group_id
    cluster = module.cluster.cluster_security_group_id
  })

  study_client_security_group_ids = { cluster = module.cluster.cluster_security_group_id }

  database = {
    instance_class            = var.mlflow.database_class
    allocated_storage_gib     = var.mlflow.database_storage_gib
    max_allocated_storage_gib = 5 * var.mlflow.database_storage_gib
    multi_az                  = var.mlflow.database_multi_az
    backup_retention_days     = var.mlflow.backup_retention_days
    deletion_protection       = var.deletion_protection
    skip_final_snapshot       = !var.mlflow.final_database_snapshot
  }

  task = {
    cpu       = var.mlflow.task_cpu
    memory    = var.mlflow.task_memory
    min_count = var.mlflow.min_tasks
    max_count = var.mlflow.max_tasks
  }
}

module "serving" {
  source = "../serving"

  name                     = local.name
  global_name              = module.names.global_name
  endpoints                = var.endpoints
  owners                   = local.owners
  image                    = var.images.serving
  kms_key_arn              = module.storage.kms_key_arn
  artifacts_bucket         = module.storage.buckets["artifacts"]
  data_bucket              = module.storage.buckets["data"]
  permissions_boundary_arn = var.permissions_boundary_arn
  runbook_base_url         = var.runbook_base_url
  log_retention_days       = var.log_retention_days
}

module "observability" {
  source = "../observability"

  name                     = local.name
  global_name              = module.names.global_name
  environment              = var.environment
  kms_key_arn              = module.storage.kms_key_arn
  email_addresses          = var.alert_email_addresses
  runbook_base_url         = var.runbook_base_url
  airflow_environment_name = module.airflow.environment_name
  cluster_name             = module.cluster.cluster_name
  endpoint_names           = module.serving.endpoint_names
  thresholds               = { endpoint_silence_hours = var.endpoint_silence_hours }

  landing_dead_letter_queue_name = module.storage.landing_dead_letter_queue_name

  mlflow = {
    load_balancer_arn_suffix = module.mlflow.load_balancer_arn_suffix
    target_group_arn_suffix  = module.mlflow.target_group_arn_suffix
    database_identifier      = module.mlflow.database_identifier
    cluster_name             = module.mlflow.cluster_name
    service_name             = module.mlflow.service_name
    always_on                = var.budget.shutdown == null
  }
}

module "budget" {
  source = "../budget"

  name              = local.name
  global_name       = module.names.global_name
  project           = var.name
  environment       = var.environment
  monthly_limit_usd = var.budget.monthly_limit_usd
  email_addresses   = var.alert_email_addresses
  alarms_topic_arn  = module.observability.alarms_topic_arn
  kms_key_arn       = module.storage.kms_key_arn
  runbook_base_url  = var.runbook_base_url

  permissions_boundary_arn = var.permissions_boundary_arn

  # MWAA, the control plane and the NAT gateway cannot be stopped. Of the rest, what stands at rest is stopped.
  shutdown = var.budget.shutdown == null ? null : {
    stop_schedule       = var.budget.shutdown.stop
    start_schedule      = var.budget.shutdown.start
    timezone            = var.budget.shutdown.timezone
    database_identifier = module.mlflow.database_identifier

    ecs = {
      cluster = module.mlflow.cluster_name
      service = module.mlflow.service_name
      count   = var.mlflow.min_tasks
    }

    node_groups = {
      cluster = module.cluster.cluster_name
      # The autoscaler sleeps with the system nodes, so nodes that train would stay all night.
      sizes = merge(
        {
          (module.cluster.node_group_names["system"]) = {
            min_size = var.cluster.system.min_size
            max_size = var.cluster.system.max_size
          }
          (module.cluster.node_group_names["cpu"]) = { min_size = 0, max_size = var.cluster.cpu.max_size }
        },
        {
          for gpu in var.cluster.gpu[*] : module.cluster.node_group_names["gpu"] => { min_size = 0, max_size = gpu.max_size }
        },
        local.gpu_fallback_size == 0 ? {} : {
          (module.cluster.node_group_names["gpu-fallback"]) = { min_size = 0, max_size = local.gpu_fallback_size }
        }
      )
    }
  }
}
