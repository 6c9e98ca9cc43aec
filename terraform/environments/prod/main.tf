# The real thing: three zones, a NAT gateway in each, two of what must not stop, guards on.
module "platform" {
  source = "../../modules/platform"

  environment                  = "prod"
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

  # What every command that asks Airflow goes through, `make approve` among them: AWS takes the REST API of a private
  # page from inside the network only. Null where those who use them are private clients (private_client_cidrs).
  bastion = { instance_type = "t4g.nano" }

  network = {
    cidr               = "10.40.0.0/16"
    zones              = 3
    single_nat_gateway = false
    interface_endpoints = [
      "ecr.api", "ecr.dkr", "logs", "monitoring", "sts", "secretsmanager", "kms", "sqs", "sns",
      "sagemaker.api", "sagemaker.runtime",
    ]
  }

  cluster = {
    kubernetes_version           = "1.36"
    endpoint_public_access_cidrs = var.operator_cidrs
    system                       = { instance_types = ["m6i.large", "m6a.large", "m5.large"], min_size = 3, max_size = 6 }
    cpu                          = { instance_types = ["m6i.2xlarge", "m6a.2xlarge", "m5.2xlarge"], max_size = 10, spot = false }
    gpu                          = { instance_types = ["g5.xlarge", "g6.xlarge", "g4dn.xlarge"], max_size = 8, on_demand_max_size = 4 }
  }

  airflow = {
    webserver_access_mode = var.airflow_page_public ? "PUBLIC_ONLY" : "PRIVATE_ONLY"
    environment_class     = "mw1.medium"
    min_workers           = 2
    max_workers           = 8
    schedulers            = 2
  }

  mlflow = {
    certificate_arn         = var.mlflow_certificate_arn
    domain_name             = var.mlflow_domain_name
    database_class          = "db.m7g.large"
    database_storage_gib    = 100
    database_multi_az       = true
    backup_retention_days   = 30
    final_database_snapshot = coalesce(var.final_database_snapshot, true)
    restore_snapshot        = var.restore_database_snapshot
    task_cpu                = 1024
    task_memory             = 4096
    min_tasks               = 2
    max_tasks               = 6
  }

  endpoints = {
    flights = { instance_type = "ml.m6i.large", instance_count = 2, max_instance_count = 6 }
  }

  endpoint_silence_hours = 24 # somebody always asks in production

  log_retention_days = 365

  budget = {
    monthly_limit_usd = 5000
  }
}
