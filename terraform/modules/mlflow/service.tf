resource "aws_ecs_cluster" "this" {
  name = local.name

  setting {
    name  = "containerInsights"
    value = "enabled"
  }

  depends_on = [aws_cloudwatch_log_group.container_insights]
}

locals {
  database_environment = {
    AWS_DEFAULT_REGION   = local.region
    MLFLOW_DB_HOST       = aws_db_instance.this.address
    MLFLOW_DB_NAME       = "mlflow"
    MLFLOW_DB_PORT       = "5432"
    MLFLOW_DB_SECRET_ARN = local.database_secret_arn # its address; the server reads it
  }

  server_environment = merge(local.database_environment, {
    # Made beside MLflow's own when it is not there yet.
    MLFLOW_STUDIES_DATABASE      = local.studies_database
    MLFLOW_ARTIFACTS_DESTINATION = "s3://${var.artifacts_bucket.name}/${local.artifacts_prefix}"
    MLFLOW_DISABLE_TELEMETRY     = "true"
    MLFLOW_PORT                  = tostring(local.port)
    # Any other name in the Host header is answered 403; the load balancer's checks go to /health, which is exempt.
    # localhost is where `make open` leads to. A page of somebody else's cannot name it: its own name is in its requests.
    MLFLOW_SERVER_ALLOWED_HOSTS = "${local.domain_name},${local.domain_name}:*,localhost:*"
    # The pages' own requests carry an Origin, and behind a load balancer the server does not know its own.
    MLFLOW_SERVER_CORS_ALLOWED_ORIGINS = "${local.scheme}://${local.domain_name}"
    MLFLOW_SERVER_ENABLE_JOB_EXECUTION = "false"
    MLFLOW_WORKERS                     = tostring(var.task.workers)
  })

  # What the server and the migration share: nothing but /tmp can be written, and no right is left to gain.
  container = {
    name                   = "mlflow"
    image                  = var.image
    essential              = true
    user                   = "10001"
    privileged             = false
    readonlyRootFilesystem = true
    linuxParameters = {
      initProcessEnabled = true # reaps what workers leave behind
      capabilities       = { add = [], drop = ["ALL"] }
    }
    mountPoints = [{ sourceVolume = "tmp", containerPath = "/tmp", readOnly = false }]
    volumesFrom = []
    logConfiguration = {
      logDriver = "awslogs"
      options = {
        "awslogs-group"         = aws_cloudwatch_log_group.service.name
        "awslogs-region"        = local.region
        "awslogs-stream-prefix" = "mlflow"
        "mode"                  = "non-blocking" # a log service that is slow does not make the server slow
        "max-buffer-size"       = "4m"
      }
    }
  }

  server = merge(local.container, {
    command      = ["server"]
    environment  = [for name, value in local.server_environment : { name = name, value = value }]
    portMappings = [{ containerPort = local.port, hostPort = local.port, protocol = "tcp" }]
    stopTimeout  = 60
    # ECS does not look at the image's own.
    healthCheck = {
      command     = ["CMD", "python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:${local.port}/health', timeout=3)"]
      interval    = 15
      timeout     = 5
      retries     = 3
      startPeriod = 120
    }
  })

  migration = merge(local.container, {
    command      = ["db-upgrade"]
    environment  = [for name, value in local.database_environment : { name = name, value = value }]
    portMappings = []
  })
}

resource "aws_ecs_task_definition" "server" {
  family                   = local.name
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = var.task.cpu
  memory                   = var.task.memory
  execution_role_arn       = aws_iam_role.execution.arn
  task_role_arn            = aws_iam_role.task.arn
  container_definitions    = jsonencode([local.server])

  runtime_platform {
    cpu_architecture        = "X86_64"
    operating_system_family = "LINUX"
  }

  # Empty, gone with the task; the image declares the folder, so that it stays writable for its user.
  volume {
    name = "tmp"
  }
}

# Run once before a roll-out of another MLflow version: `aws ecs run-task` with this definition.
resource "aws_ecs_task_definition" "migration" {
  family                   = "${local.name}-migration"
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = 512
  memory                   = 1024
  execution_role_arn       = aws_iam_role.execution.arn
  task_role_arn            = aws_iam_role.migration.arn
  container_definitions    = jsonencode([local.migration])

  runtime_platform {
    cpu_architecture        = "X86_64"
    operating_system_family = "LINUX"
  }

  volume {
    name = "tmp"
  }
}

resource "aws_ecs_service" "this" {
  name                              = local.name
  cluster                           = aws_ecs_cluster.this.id
  task_definition                   = aws_ecs_task_definition.server.arn
  desired_count                     = var.task.min_count
  launch_type                       = "FARGATE"
  platform_version                  = "LATEST"
  availability_zone_rebalancing     = "ENABLED"
  enable_execute_command            = false
  enable_ecs_managed_tags           = true
  propagate_tags                    = "SERVICE"
  health_check_grace_period_seconds = 120

  # A version that does not come up is taken back by itself; the old tasks stay until the new ones are healthy.
  deployment_minimum_healthy_percent = 100
  deployment_maximum_percent         = 200

  deployment_circuit_breaker {
    enable   = true
    rollback = true
  }

  network_configuration {
    subnets          = var.private_subnet_ids
    security_groups  = [aws_security_group.service.id]
    assign_public_ip = false
  }

  load_balancer {
    target_group_arn = aws_lb_target_group.this.arn
    container_name   = local.container.name
    container_port   = local.port
  }

  lifecycle {
    ignore_changes = [desired_count] # autoscaling's, and the nightly shut-down's
  }

  depends_on = [
    aws_iam_role_policy.execution,
    aws_iam_role_policy.task_artifacts,
    aws_iam_role_policy.task_secret,
    aws_lb_listener.http, # a target group must belong to a load balancer before a service may use it
    aws_lb_listener.https,
    aws_vpc_security_group_egress_rule.service_database,
    aws_vpc_security_group_egress_rule.service_https,
    aws_vpc_security_group_ingress_rule.database,
  ]
}
