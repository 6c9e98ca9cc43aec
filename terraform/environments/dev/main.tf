# Cheap and small: one zone's NAT gateway, the smallest of everything, stopped at night.
module "platform" {
  source = "../../modules/platform"

  environment                  = "dev"
  region                       = var.region
  name                         = local.platform.name
  region_in_names              = local.platform.region_in_names
  deletion_protection          = coalesce(var.deletion_protection, false)
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
    cidr                = "10.20.0.0/16"
    zones               = 2
    single_nat_gateway  = true
    interface_endpoints = []
  }

  cluster = {
    kubernetes_version           = "1.36"
    endpoint_public_access_cidrs = var.operator_cidrs
    system                       = { instance_types = ["t3.large", "t3a.large"], min_size = 2, max_size = 3 }
    cpu                          = { instance_types = ["m6i.xlarge", "m6a.xlarge", "m5.xlarge"], max_size = 4, spot = true }
    # Null: everything trains on CPUs, because a new account may have no GPU. docs/training.md says how to switch them on.
    gpu = null
  }

  airflow = {
    webserver_access_mode = var.airflow_page_public ? "PUBLIC_ONLY" : "PRIVATE_ONLY"
    environment_class     = "mw1.micro"
    min_workers           = 1
    max_workers           = 1
    schedulers            = 1
  }

  mlflow = {
    # Inside the network, from and to named security groups only. Give a certificate, and HTTPS takes its place.
    allow_http              = var.mlflow_certificate_arn == null
    certificate_arn         = var.mlflow_certificate_arn
    domain_name             = var.mlflow_domain_name
    database_class          = "db.t4g.micro"
    database_storage_gib    = 20
    database_multi_az       = false
    backup_retention_days   = 1
    final_database_snapshot = coalesce(var.final_database_snapshot, false)
    restore_snapshot        = var.restore_database_snapshot
    task_cpu                = 512
    task_memory             = 1024
    min_tasks               = 1
    max_tasks               = 1
  }

  endpoints = {
    flights = { instance_type = "ml.t2.medium", instance_count = 1, max_instance_count = 1 }
  }

  endpoint_silence_hours = null # it is asked now and then

  log_retention_days = 14

  budget = {
    monthly_limit_usd = 900
    shutdown          = { stop = "cron(0 20 ? * MON-FRI *)", start = "cron(0 7 ? * MON-FRI *)", timezone = "UTC" }
  }
}
