mock_provider "aws" {
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }
  mock_data "aws_partition" {
    defaults = { partition = "aws" }
  }
  mock_data "aws_region" {
    defaults = { name = "eu-west-1" }
  }
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{}" }
  }
  mock_resource "aws_iam_role" {
    defaults = { arn = "arn:aws:iam::123456789012:role/mock" }
  }
  mock_resource "aws_lb" {
    defaults = { arn = "arn:aws:elasticloadbalancing:eu-west-1:123456789012:loadbalancer/app/mock/1", arn_suffix = "app/mock/1" }
  }
  mock_resource "aws_lb_target_group" {
    defaults = { arn = "arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/mock/2", arn_suffix = "targetgroup/mock/2" }
  }
  mock_resource "aws_db_instance" {
    defaults = {
      address     = "mock.rds.example"
      resource_id = "db-MOCK"
      master_user_secret = [{
        kms_key_id    = "mock"
        secret_arn    = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:rds!db-mock"
        secret_status = "active"
      }]
    }
  }
}

variables {
  name                      = "ml-platform-test"
  image                     = "123456789012.dkr.ecr.eu-west-1.amazonaws.com/ml-platform/mlflow@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
  vpc_id                    = "vpc-1"
  private_subnet_ids        = ["subnet-a", "subnet-b"]
  kms_key_arn               = "arn:aws:kms:eu-west-1:123456789012:key/00000000-0000-0000-0000-000000000000"
  artifacts_bucket          = { name = "artifacts", arn = "arn:aws:s3:::artifacts" }
  logs_bucket               = { name = "logs", arn = "arn:aws:s3:::logs" }
  client_security_group_ids = { airflow = "sg-airflow", cluster = "sg-cluster" }
  certificate_arn           = "arn:aws:acm:eu-west-1:123456789012:certificate/1"
}

run "defaults" {
  command = plan

  # --- The database

  assert {
    condition = (
      aws_db_instance.this.engine == "postgres" && aws_db_instance.this.engine_version == "17" &&
      aws_db_parameter_group.this.family == "postgres17"
    )
    error_message = "The database is PostgreSQL 17, with a parameter group of that family."
  }
  assert {
    condition     = contains([for parameter in aws_db_parameter_group.this.parameter : "${parameter.name}=${parameter.value}"], "rds.force_ssl=1")
    error_message = "Connections without TLS must be refused."
  }
  assert {
    condition = (
      aws_db_instance.this.storage_encrypted && aws_db_instance.this.kms_key_id == var.kms_key_arn &&
      aws_db_instance.this.performance_insights_kms_key_id == var.kms_key_arn &&
      aws_db_instance.this.master_user_secret_kms_key_id == var.kms_key_arn
    )
    error_message = "Data, insights and secret are encrypted with the environment's key."
  }
  assert {
    condition     = aws_db_instance.this.manage_master_user_password && aws_db_instance.this.password == null
    error_message = "RDS manages the password; none is in the state."
  }
  assert {
    condition = (
      aws_db_instance.this.multi_az && aws_db_instance.this.deletion_protection && !aws_db_instance.this.skip_final_snapshot &&
      aws_db_instance.this.final_snapshot_identifier == "ml-platform-test-mlflow-final" &&
      aws_db_instance.this.backup_retention_period == 14 && aws_db_instance.this.auto_minor_version_upgrade &&
      !aws_db_instance.this.publicly_accessible && aws_db_instance.this.storage_type == "gp3"
    )
    error_message = "The defaults are production's: guarded, in two zones, with backups, private."
  }
  assert {
    condition     = aws_db_instance.this.monitoring_interval == 60 && length(aws_iam_role.monitoring) == 1
    error_message = "Enhanced monitoring is on by default."
  }
  assert {
    condition = toset([for group in aws_cloudwatch_log_group.database : group.name]) == toset([
      "/aws/rds/instance/ml-platform-test-mlflow/postgresql", "/aws/rds/instance/ml-platform-test-mlflow/upgrade"
    ]) && aws_db_instance.this.enabled_cloudwatch_logs_exports == toset(["postgresql", "upgrade"])
    error_message = "The database's logs go to groups that were made for them."
  }
  assert {
    condition = alltrue([
      for group in concat(values(aws_cloudwatch_log_group.database), [aws_cloudwatch_log_group.service, aws_cloudwatch_log_group.container_insights]) :
      group.retention_in_days == 90 && group.kms_key_id == var.kms_key_arn
    ])
    error_message = "Every log group has retention and the key."
  }

  # --- The load balancer

  assert {
    condition     = output.tracking_uri == "https://mlflow.ml-platform-test.internal"
    error_message = "With a certificate the address is HTTPS."
  }
  assert {
    condition = (
      aws_lb_listener.https[0].port == 443 && aws_lb_listener.https[0].certificate_arn == var.certificate_arn &&
      aws_lb_listener.https[0].ssl_policy == "ELBSecurityPolicy-TLS13-1-2-2021-06"
    )
    error_message = "HTTPS with TLS 1.2 and 1.3 only."
  }
  assert {
    condition = (
      length(aws_lb_listener.http.default_action) == 1 && aws_lb_listener.http.default_action[0].type == "redirect" &&
      aws_lb_listener.http.default_action[0].redirect[0].protocol == "HTTPS"
    )
    error_message = "Plain HTTP is redirected."
  }
  assert {
    condition     = aws_lb.this.internal && aws_lb.this.drop_invalid_header_fields && aws_lb.this.enable_deletion_protection
    error_message = "The load balancer is internal, strict and guarded."
  }
  assert {
    condition     = aws_lb.this.access_logs[0].enabled && aws_lb.this.access_logs[0].bucket == "logs" && aws_lb.this.access_logs[0].prefix == "load-balancers/mlflow"
    error_message = "Access logs go to the logs bucket."
  }
  assert {
    condition = (
      keys(aws_vpc_security_group_ingress_rule.load_balancer_https) == ["airflow", "cluster"] &&
      alltrue([for rule in aws_vpc_security_group_ingress_rule.load_balancer_https : rule.cidr_ipv4 == null && rule.to_port == 443])
    )
    error_message = "Only the clients' groups come in, no address range."
  }
  assert {
    condition     = [for vpc in aws_route53_zone.this.vpc : vpc.vpc_id] == ["vpc-1"] && aws_route53_record.this.name == "mlflow.ml-platform-test.internal"
    error_message = "The name is known inside the VPC only."
  }

  # --- The service

  assert {
    condition = (
      aws_ecs_service.this.desired_count == 2 && aws_ecs_service.this.deployment_circuit_breaker[0].enable &&
      aws_ecs_service.this.deployment_circuit_breaker[0].rollback && !aws_ecs_service.this.enable_execute_command &&
      !aws_ecs_service.this.network_configuration[0].assign_public_ip
    )
    error_message = "Two tasks, private, and a bad version is taken back."
  }
  assert {
    condition     = contains([for setting in aws_ecs_cluster.this.setting : "${setting.name}=${setting.value}"], "containerInsights=enabled")
    error_message = "Container Insights is on."
  }
  assert {
    condition     = aws_cloudwatch_log_group.container_insights.name == "/aws/ecs/containerinsights/ml-platform-test-mlflow/performance"
    error_message = "The log group of Container Insights must be called as ECS calls it."
  }
  assert {
    condition = (
      aws_appautoscaling_target.this[0].min_capacity == 2 && aws_appautoscaling_target.this[0].max_capacity == 4 &&
      length(aws_appautoscaling_policy.cpu) == 1 && length(aws_appautoscaling_policy.requests) == 1
    )
    error_message = "The service scales on CPU and on requests."
  }
  assert {
    condition     = aws_lb_target_group.this.target_type == "ip" && aws_lb_target_group.this.health_check[0].path == "/health"
    error_message = "Fargate's targets are addresses, checked where any Host header is answered."
  }
  assert {
    condition     = aws_vpc_security_group_ingress_rule.service.to_port == 5000 && aws_vpc_security_group_ingress_rule.database.to_port == 5432
    error_message = "The ports are MLflow's and PostgreSQL's."
  }
  assert {
    condition     = alltrue([for role in [aws_iam_role.execution, aws_iam_role.task, aws_iam_role.migration, aws_iam_role.monitoring[0]] : role.permissions_boundary == null])
    error_message = "No boundary unless given."
  }
  assert {
    condition     = local.repository_arn == "arn:aws:ecr:eu-west-1:123456789012:repository/ml-platform/mlflow"
    error_message = "The execution role pulls the one image."
  }
}

run "small_database" {
  command = plan
  variables {
    database = {
      engine_version              = "16.9"
      instance_class              = "db.t4g.micro"
      multi_az                    = false
      backup_retention_days       = 1
      deletion_protection         = false
      skip_final_snapshot         = true
      monitoring_interval_seconds = 0
    }
  }

  assert {
    condition = (
      !aws_db_instance.this.multi_az && !aws_db_instance.this.deletion_protection && aws_db_instance.this.skip_final_snapshot &&
      aws_db_instance.this.final_snapshot_identifier == null && aws_db_instance.this.backup_retention_period == 1
    )
    error_message = "A database to throw away has no guards and leaves no snapshot."
  }
  assert {
    condition     = aws_db_parameter_group.this.family == "postgres16" && aws_db_parameter_group.this.name == "ml-platform-test-mlflow-postgres16"
    error_message = "The parameter group follows the major version."
  }
  assert {
    condition     = length(aws_iam_role.monitoring) == 0 && length(aws_iam_role_policy.monitoring) == 0
    error_message = "Without enhanced monitoring there is no role for it."
  }
  assert {
    condition     = !aws_lb.this.enable_deletion_protection
    error_message = "The load balancer is guarded as the database is, unless asked otherwise."
  }
  assert {
    condition     = output.final_snapshot_identifier == null
    error_message = "No snapshot is announced where none is taken."
  }
}

run "restored_database" {
  command = plan
  variables {
    restore_snapshot_identifier = "ml-platform-test-mlflow-final"
    database                    = { final_snapshot_identifier = "ml-platform-test-mlflow-final-2" }
  }

  assert {
    condition = (
      aws_db_instance.this.snapshot_identifier == "ml-platform-test-mlflow-final" &&
      aws_db_instance.this.final_snapshot_identifier == "ml-platform-test-mlflow-final-2"
    )
    error_message = "A new database starts from the snapshot; the last snapshot may have another name."
  }
}

run "http" {
  command = plan
  variables {
    client_cidrs                      = ["10.8.0.0/16"]
    certificate_arn                   = null
    allow_http                        = true
    domain_name                       = "mlflow.example.com"
    access_logs_prefix                = "alb"
    load_balancer_deletion_protection = false
  }

  assert {
    condition     = output.tracking_uri == "http://mlflow.example.com"
    error_message = "Without a certificate the address is HTTP."
  }
  assert {
    condition = (
      length(aws_lb_listener.https) == 0 && length(aws_lb_listener.http.default_action) == 1 &&
      aws_lb_listener.http.default_action[0].type == "forward"
    )
    error_message = "Without a certificate HTTP is served."
  }
  assert {
    condition     = length(aws_vpc_security_group_ingress_rule.load_balancer_https) == 0 && length(aws_vpc_security_group_ingress_rule.load_balancer_http) == 2
    error_message = "Only the port that is served is open."
  }
  assert {
    condition     = [for rule in aws_vpc_security_group_ingress_rule.load_balancer_client_cidrs : "${rule.cidr_ipv4} ${rule.to_port}"] == ["10.8.0.0/16 80"]
    error_message = "Private clients come in by it."
  }
  assert {
    condition     = !aws_lb.this.enable_deletion_protection && aws_lb.this.access_logs[0].prefix == "alb"
    error_message = "What is asked must be set."
  }
}

run "one_task" {
  command = plan
  variables {
    task                     = { cpu = 512, memory = 1024, min_count = 1, max_count = 1, workers = 1 }
    log_retention_days       = 7
    permissions_boundary_arn = "arn:aws:iam::123456789012:policy/boundary"
  }

  assert {
    condition = (
      aws_ecs_service.this.desired_count == 1 && length(aws_appautoscaling_target.this) == 0 &&
      length(aws_appautoscaling_policy.cpu) == 0 && length(aws_appautoscaling_policy.requests) == 0
    )
    error_message = "A service of one size has no autoscaling."
  }
  assert {
    condition     = aws_ecs_task_definition.server.cpu == "512" && aws_ecs_task_definition.server.memory == "1024"
    error_message = "The task's size is a variable."
  }
  assert {
    condition     = aws_cloudwatch_log_group.service.retention_in_days == 7
    error_message = "Retention is a variable."
  }
  assert {
    condition = alltrue([
      for role in [aws_iam_role.execution, aws_iam_role.task, aws_iam_role.migration, aws_iam_role.monitoring[0]] :
      role.permissions_boundary == "arn:aws:iam::123456789012:policy/boundary"
    ])
    error_message = "The boundary must be on every role."
  }
}

# What is in the containers is known after apply only.
run "containers" {
  assert {
    condition = alltrue([
      for task in [aws_ecs_task_definition.server, aws_ecs_task_definition.migration] : (
        jsondecode(task.container_definitions)[0].readonlyRootFilesystem &&
        !jsondecode(task.container_definitions)[0].privileged &&
        jsondecode(task.container_definitions)[0].user == "10001" &&
        jsondecode(task.container_definitions)[0].linuxParameters.capabilities.drop == ["ALL"] &&
        jsondecode(task.container_definitions)[0].mountPoints == [{ sourceVolume = "tmp", containerPath = "/tmp", readOnly = false }] &&
        jsondecode(task.container_definitions)[0].image == var.image &&
        task.network_mode == "awsvpc" && task.runtime_platform[0].cpu_architecture == "X86_64"
      )
    ])
    error_message = "Nothing but /tmp can be written, and no right is left to gain."
  }
  assert {
    condition = { for entry in jsondecode(aws_ecs_task_definition.server.container_definitions)[0].environment : entry.name => entry.value } == {
      AWS_DEFAULT_REGION                 = "eu-west-1"
      MLFLOW_ARTIFACTS_DESTINATION       = "s3://artifacts/mlflow"
      MLFLOW_DB_HOST                     = "mock.rds.example"
      MLFLOW_DB_NAME                     = "mlflow"
      MLFLOW_DB_PORT                     = "5432"
      MLFLOW_DB_SECRET_ARN               = "arn:aws:secretsmanager:eu-west-1:123456789012:secret:rds!db-mock"
      MLFLOW_DISABLE_TELEMETRY           = "true"
      MLFLOW_PORT                        = "5000"
      MLFLOW_SERVER_ALLOWED_HOSTS        = "mlflow.ml-platform-test.internal,mlflow.ml-platform-test.internal:*,localhost:*"
      MLFLOW_SERVER_CORS_ALLOWED_ORIGINS = "https://mlflow.ml-platform-test.internal"
      MLFLOW_SERVER_ENABLE_JOB_EXECUTION = "false"
      MLFLOW_STUDIES_DATABASE            = "studies"
      MLFLOW_WORKERS                     = "2"
    }
    error_message = "The server gets its settings, and the address of its secret, not the secret."
  }
  assert {
    condition = (
      jsondecode(aws_ecs_task_definition.migration.container_definitions)[0].command == ["db-upgrade"] &&
      !contains([for entry in jsondecode(aws_ecs_task_definition.migration.container_definitions)[0].environment : entry.name], "MLFLOW_ARTIFACTS_DESTINATION") &&
      aws_ecs_task_definition.migration.family == "ml-platform-test-mlflow-migration"
    )
    error_message = "The migration upgrades the tables and knows of no artifacts."
  }
  assert {
    condition = (
      jsondecode(aws_ecs_task_definition.server.container_definitions)[0].logConfiguration.options["awslogs-group"] == aws_cloudwatch_log_group.service.name
    )
    error_message = "The logs go to the group with retention and key."
  }
  assert {
    condition     = length(jsondecode(aws_ecs_task_definition.server.container_definitions)[0].healthCheck.command) == 4
    error_message = "ECS needs a health check of its own."
  }
  assert {
    condition     = aws_appautoscaling_policy.requests[0].target_tracking_scaling_policy_configuration[0].predefined_metric_specification[0].resource_label == "app/mock/1/targetgroup/mock/2"
    error_message = "Requests are counted at this load balancer and target group."
  }
  assert {
    condition = (
      aws_vpc_security_group_ingress_rule.service.referenced_security_group_id == aws_security_group.load_balancer.id &&
      aws_vpc_security_group_ingress_rule.database.referenced_security_group_id == aws_security_group.service.id
    )
    error_message = "Each part lets in only the one before it."
  }
  assert {
    condition = (
      output.load_balancer_arn_suffix == "app/mock/1" && output.target_group_arn_suffix == "targetgroup/mock/2" &&
      output.database_identifier == "ml-platform-test-mlflow" && output.service_name == "ml-platform-test-mlflow" &&
      output.database_secret_arn == "arn:aws:secretsmanager:eu-west-1:123456789012:secret:rds!db-mock"
    )
    error_message = "The outputs name what was made."
  }
}

run "studies" {
  command = apply

  variables {
    study_client_security_group_ids = { cluster = "sg-cluster" }
  }

  assert {
    condition     = aws_db_instance.this.iam_database_authentication_enabled
    error_message = "Training pods sign in by their role; there is no password to keep."
  }
  assert {
    condition     = output.studies_user_arn == "arn:aws:rds-db:eu-west-1:123456789012:dbuser:db-MOCK/studies"
    error_message = "The right to connect is for the studies' user of this database alone."
  }
  assert {
    condition = (
      keys(aws_vpc_security_group_ingress_rule.studies) == ["cluster"] &&
      aws_vpc_security_group_ingress_rule.studies["cluster"].from_port == 5432
    )
    error_message = "Only the named clients reach the database, and only its port."
  }
  assert {
    condition     = strcontains(aws_ecs_task_definition.server.container_definitions, "MLFLOW_STUDIES_DATABASE")
    error_message = "The server makes the studies' database beside its own."
  }
}
