locals {
  postgres_major = split(".", var.database.engine_version)[0]
}

resource "aws_db_subnet_group" "this" {
  name        = local.name
  description = "MLflow's database"
  subnet_ids  = var.private_subnet_ids
}

resource "aws_db_parameter_group" "this" {
  # The version is in the name, so that an upgrade finds its new group beside the old one.
  name        = "${local.name}-postgres${local.postgres_major}"
  description = "MLflow's database: TLS only, slow and defining statements are logged"
  family      = "postgres${local.postgres_major}"

  parameter {
    name  = "rds.force_ssl"
    value = "1"
  }

  parameter {
    name  = "log_min_duration_statement" # milliseconds
    value = "1000"
  }

  parameter {
    name  = "log_statement"
    value = "ddl"
  }

  lifecycle {
    create_before_destroy = true # the database uses it until it has the next one
  }
}

resource "aws_db_instance" "this" {
  identifier     = local.name
  engine         = "postgres"
  engine_version = var.database.engine_version
  instance_class = var.database.instance_class
  multi_az       = var.database.multi_az

  db_name  = "mlflow"
  username = "mlflow"
  port     = 5432

  # RDS makes the password, keeps it in Secrets Manager and changes it every seven days; nobody else has it.
  manage_master_user_password = true
  # The searches' user has no password at all: training pods sign in by their role.
  iam_database_authentication_enabled = true
  master_user_secret_kms_key_id       = var.kms_key_arn

  storage_type          = "gp3"
  allocated_storage     = var.database.allocated_storage_gib
  max_allocated_storage = var.database.max_allocated_storage_gib
  storage_encrypted     = true
  kms_key_id            = var.kms_key_arn

  db_subnet_group_name   = aws_db_subnet_group.this.name
  vpc_security_group_ids = [aws_security_group.database.id]
  publicly_accessible    = false
  parameter_group_name   = aws_db_parameter_group.this.name
  ca_cert_identifier     = "rds-ca-rsa2048-g1"

  auto_minor_version_upgrade  = true
  allow_major_version_upgrade = var.database.allow_major_version_upgrade
  apply_immediately           = var.database.apply_immediately
  maintenance_window          = var.database.maintenance_window
  backup_window               = var.database.backup_window
  backup_retention_period     = var.database.backup_retention_days
  copy_tags_to_snapshot       = true

  enabled_cloudwatch_logs_exports       = [for group in keys(aws_cloudwatch_log_group.database) : group]
  performance_insights_enabled          = true
  performance_insights_kms_key_id       = var.kms_key_arn
  performance_insights_retention_period = 7 # days; what is free
  monitoring_interval                   = var.database.monitoring_interval_seconds
  monitoring_role_arn                   = one(aws_iam_role.monitoring[*].arn)

  deletion_protection       = var.database.deletion_protection
  skip_final_snapshot       = var.database.skip_final_snapshot
  final_snapshot_identifier = var.database.skip_final_snapshot ? null : coalesce(var.database.final_snapshot_identifier, "${local.name}-final")
  snapshot_identifier       = var.restore_snapshot_identifier

  timeouts {
    create = "2h" # a restore, or Multi-AZ, can take its time
    update = "2h"
    delete = "2h" # the final snapshot is taken first
  }

  lifecycle {
    # Where the data came from is a fact of the first day: taking the variable away again must not replace a database.
    ignore_changes = [snapshot_identifier]
  }
}

# Enhanced monitoring: the agent on the database's host writes to RDS's own log group.

data "aws_iam_policy_document" "monitoring_trust" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["monitoring.rds.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [local.account_id]
    }

    condition {
      test     = "ArnLike"
      variable = "aws:SourceArn"
      values   = ["arn:${local.partition}:rds:${local.region}:${local.account_id}:db:${local.name}"]
    }
  }
}

# As AWS's own AmazonRDSEnhancedMonitoringRole, but for the one log group it is about.
data "aws_iam_policy_document" "monitoring" {
  statement {
    actions = [
      "logs:CreateLogGroup",
      "logs:CreateLogStream",
      "logs:DescribeLogStreams",
      "logs:GetLogEvents",
      "logs:PutLogEvents",
      "logs:PutRetentionPolicy",
    ]
    resources = [
      "arn:${local.partition}:logs:${local.region}:${local.account_id}:log-group:RDSOSMetrics",
      "arn:${local.partition}:logs:${local.region}:${local.account_id}:log-group:RDSOSMetrics:*",
    ]
  }
}

resource "aws_iam_role" "monitoring" {
  count = var.database.monitoring_interval_seconds > 0 ? 1 : 0

  name                 = "${local.global_name}-db-monitoring"
  description          = "Enhanced monitoring of ${local.name}"
  assume_role_policy   = data.aws_iam_policy_document.monitoring_trust.json
  permissions_boundary = var.permissions_boundary_arn
}

resource "aws_iam_role_policy" "monitoring" {
  count = var.database.monitoring_interval_seconds > 0 ? 1 : 0

  name   = "monitoring"
  role   = aws_iam_role.monitoring[0].id
  policy = data.aws_iam_policy_document.monitoring.json
}
