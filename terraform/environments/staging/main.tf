# As production, smaller: what passes here has passed the same code and the same shape.
module "platform" {
  source = "../../modules/platform"

  environment                  = "staging"
  region                       = var.region
  name                         = local.platform.name
  region_in_names              = local.platform.region_in_names
  deletion_protection          = coalesce(var.deletion_protection, true)
  allow_unprotected_production = var.allow_unprotected_production
  admin_role_arns              = var.admin_role_arns
  alert_email_addresses        = var.alert_email_addresses
  availability_zones           = var.availability_zones
  git_sha                      = var.git_sha
  images                       = var.images
  permissions_boundary_arn     = var.permissions_boundary_arn
  runbook_base_url             = var.runbook_base_url
  tags                         = local.tags

  private_client_cidrs              = var.private_client_cidrs
  private_client_security_group_ids = var.private_client_security_group_ids

  bastion = { instance_type = "t4g.nano" } # what `make open`, and all that asks Airflow, goes through

  network = {
    cidr                = "10.30.0.0/16"
    zones               = 2
    single_nat_gateway  = true
    interface_endpoints = []
  }

  cluster = {
    kubernetes_version           = "1.36"
    endpoint_public_access_cidrs = var.operator_cidrs
    system                       = { instance_types = ["m6i.large", "m6a.large", "m5.large"], min_size = 2, max_size = 4 }
    cpu                          = { instance_types = ["m6i.xlarge", "m6a.xlarge", "m5.xlarge"], max_size = 6, spot = true }
    gpu                          = { instance_types = ["g5.xlarge", "g6.xlarge", "g4dn.xlarge"], max_size = 4, on_demand_max_size = 2 }
  }

  airflow = {
    webserver_access_mode = var.airflow_page_public ? "PUBLIC_ONLY" : "PRIVATE_ONLY"
    environment_class     = "mw1.small"
    min_workers           = 1
    max_workers           = 4
    schedulers            = 2
  }

  mlflow = {
    certificate_arn         = var.mlflow_certificate_arn
    domain_name             = var.mlflow_domain_name
    database_class          = "db.t4g.small"
    database_storage_gib    = 20
    database_multi_az       = false
    backup_retention_days   = 7
    final_database_snapshot = coalesce(var.final_database_snapshot, true)
    restore_snapshot        = var.restore_database_snapshot
    task_cpu                = 1024
    task_memory             = 2048
    min_tasks               = 1
    max_tasks               = 2
  }

  endpoints = {
    flights = { instance_type = "ml.m6i.large", instance_count = 2, max_instance_count = 3 }
  }

  endpoint_silence_hours = null # it is asked now and then

  log_retention_days = 30

  budget = {
    monthly_limit_usd = 2000
  }
}
