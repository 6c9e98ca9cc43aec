variable "access_logs_prefix" {
  description = "Prefix of the load balancer's access logs in the logs bucket."
  type        = string
  default     = "load-balancers/mlflow"
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9][A-Za-z0-9/_-]*[A-Za-z0-9]$", var.access_logs_prefix)) && !strcontains(var.access_logs_prefix, "AWSLogs")
    error_message = "access_logs_prefix ${var.access_logs_prefix} is not usable: no slash at either end, and not AWSLogs, which the load balancer adds itself."
  }
}

variable "allow_http" {
  description = "Whether MLflow may be served without TLS, inside the VPC, where there is no certificate."
  type        = bool
  default     = false
  nullable    = false
}

variable "artifacts_bucket" {
  description = "The bucket of the artifacts; the server uses its prefix mlflow/."
  type        = object({ name = string, arn = string })
  nullable    = false
}

variable "certificate_arn" {
  description = "ARN of the ACM certificate for domain_name; null only together with allow_http."
  type        = string
  default     = null

  validation {
    condition     = var.certificate_arn != null || var.allow_http
    error_message = "certificate_arn is null: name an ACM certificate for the domain name, or set allow_http to true to serve MLflow without TLS inside the VPC."
  }

  validation {
    condition     = var.certificate_arn == null ? true : can(regex("^arn:[a-z-]+:acm:[a-z0-9-]+:[0-9]{12}:certificate/", var.certificate_arn))
    error_message = "certificate_arn must be the ARN of an ACM certificate: arn:aws:acm:<region>:<account>:certificate/<id>."
  }
}

variable "client_cidrs" {
  description = "Private networks from which people reach MLflow."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for cidr in var.client_cidrs : try(cidrhost(cidr, 0) == split("/", cidr)[0] && tonumber(split("/", cidr)[1]) >= 8, false)])
    error_message = "client_cidrs must be IPv4 networks that start at their network address, /8 or smaller: write them like 10.0.0.0/16."
  }
}

variable "client_security_group_ids" {
  description = "Security groups whose members may use MLflow, by a name of your choice."
  type        = map(string)
  nullable    = false

  validation {
    condition     = length(var.client_security_group_ids) > 0
    error_message = "client_security_group_ids is empty: name at least one security group, or nobody can use MLflow."
  }
}

variable "database" {
  description = "The PostgreSQL database: size, upkeep and guards; production's values are the defaults."
  type = object({
    allocated_storage_gib       = optional(number, 20)
    allow_major_version_upgrade = optional(bool, false)
    apply_immediately           = optional(bool, false)
    backup_retention_days       = optional(number, 14)
    backup_window               = optional(string, "00:30-01:30")
    deletion_protection         = optional(bool, true)
    engine_version              = optional(string, "17")
    final_snapshot_identifier   = optional(string)
    instance_class              = optional(string, "db.t4g.small")
    maintenance_window          = optional(string, "sun:02:00-sun:03:00")
    max_allocated_storage_gib   = optional(number, 100)
    monitoring_interval_seconds = optional(number, 60)
    multi_az                    = optional(bool, true)
    skip_final_snapshot         = optional(bool, false)
  })
  default  = {}
  nullable = false

  validation {
    condition     = can(regex("^(14|15|16|17|18)(\\.[0-9]+)?$", var.database.engine_version))
    error_message = "database.engine_version ${var.database.engine_version} is not supported: name PostgreSQL 14 to 18, as 17 or 17.5."
  }

  validation {
    condition     = can(regex("^db\\.(t3|t4g|m5|m5d|m6g|m6gd|m6i|m6id|m7g|m7i|m8g|r5|r5d|r6g|r6gd|r6i|r6id|r7g|r7i|r8g)\\.[0-9a-z]+$", var.database.instance_class))
    error_message = "database.instance_class ${var.database.instance_class} is of no known family: choose for example db.t4g.small or db.m7g.large."
  }

  validation {
    condition     = var.database.allocated_storage_gib >= 20
    error_message = "database.allocated_storage_gib must be at least 20, the least of gp3."
  }

  # RDS asks for at least a tenth of room.
  validation {
    condition     = var.database.max_allocated_storage_gib >= var.database.allocated_storage_gib * 1.1
    error_message = "database.max_allocated_storage_gib must be at least a tenth above allocated_storage_gib: raise it or lower allocated_storage_gib."
  }

  validation {
    condition     = var.database.backup_retention_days >= 1 && var.database.backup_retention_days <= 35
    error_message = "database.backup_retention_days must be 1 to 35: 0 would turn backups off."
  }

  validation {
    condition     = contains([0, 1, 5, 10, 15, 30, 60], var.database.monitoring_interval_seconds)
    error_message = "database.monitoring_interval_seconds must be 1, 5, 10, 15, 30 or 60, or 0 for none."
  }

  validation {
    condition     = !(var.database.deletion_protection && var.database.skip_final_snapshot)
    error_message = "database: skip_final_snapshot with deletion_protection contradicts itself: what is worth guarding is worth a last snapshot; set one of them to false."
  }
}

variable "domain_name" {
  description = "Name that clients call, in a private zone of its own; null: mlflow.<name>.internal."
  type        = string
  default     = null

  validation {
    condition     = var.domain_name == null ? true : can(regex("^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\\.)+[a-z]{2,}$", var.domain_name))
    error_message = "domain_name must be a host name in small letters, without scheme, port and final dot, for example mlflow.example.com."
  }
}

variable "global_name" {
  description = "Prefix of names that the account has once for all regions (roles); null takes name."
  type        = string
  default     = null
}

variable "image" {
  description = "The MLflow image in ECR, by digest or by a tag that never moves."
  type        = string
  nullable    = false

  validation {
    condition = (
      can(regex("^[0-9]{12}\\.dkr\\.ecr\\.[a-z0-9-]+\\.[a-z.]+/[a-z0-9._/-]+(:[A-Za-z0-9._-]+|@sha256:[0-9a-f]{64})$", var.image)) &&
      !endswith(var.image, ":latest")
    )
    error_message = "image must be in ECR and fixed: <account>.dkr.ecr.<region>.amazonaws.com/<repository>@sha256:<digest> (or :<tag>, but not latest); build and push it with `make images`."
  }
}

variable "kms_key_arn" {
  description = "ARN of the environment's key: database, its secret and insights, logs."
  type        = string
  nullable    = false
}

variable "load_balancer_deletion_protection" {
  description = "Whether the load balancer is guarded against deletion; null: as the database."
  type        = bool
  default     = null
}

variable "log_retention_days" {
  description = "Days that logs are kept."
  type        = number
  default     = 90
  nullable    = false

  validation {
    condition = contains(
      [1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653],
      var.log_retention_days
    )
    error_message = "log_retention_days ${var.log_retention_days} is not offered by CloudWatch: choose 7, 14, 30, 60, 90, 180, 365 or another of its steps."
  }
}

variable "logs_bucket" {
  description = "The bucket of the load balancer's access logs; its policy lets load balancers write there."
  type        = object({ name = string, arn = string })
  nullable    = false
}

variable "name" {
  description = "First part of every name, as ml-platform-dev."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,23}[a-z0-9]$", var.name)) && !strcontains(var.name, "--")
    error_message = "name ${var.name} is not usable: 3 to 25 small letters, digits and single hyphens, a letter first and no hyphen last (a load balancer's name has 32 characters at most)."
  }
}

variable "permissions_boundary_arn" {
  description = "ARN of the policy that bounds the roles' rights; null for none."
  type        = string
  default     = null
}

variable "private_subnet_ids" {
  description = "Private subnets in at least two zones."
  type        = list(string)
  nullable    = false

  validation {
    condition     = length(var.private_subnet_ids) >= 2
    error_message = "private_subnet_ids needs subnets in two zones: the load balancer and the database take no fewer."
  }
}

variable "restore_snapshot_identifier" {
  description = "Snapshot that a new database starts from; null: empty. Without effect on a database that exists."
  type        = string
  default     = null
}

variable "study_client_security_group_ids" {
  description = "Security groups whose members may reach the database itself, for the searches' studies, by a name of your choice."
  type        = map(string)
  default     = {}
  nullable    = false
}

variable "task" {
  description = "Size of a task in CPU units and MiB, how many there may be, and when another one is added."
  type = object({
    cpu                 = optional(number, 1024)
    max_count           = optional(number, 4)
    memory              = optional(number, 2048)
    min_count           = optional(number, 2)
    requests_per_minute = optional(number, 600)
    workers             = optional(number, 2)
  })
  default  = {}
  nullable = false

  # https://docs.aws.amazon.com/AmazonECS/latest/developerguide/fargate-tasks-services.html
  validation {
    condition = contains(flatten([
      [for memory in [512, 1024, 2048] : "256/${memory}"],
      [for memory in range(1024, 4097, 1024) : "512/${memory}"],
      [for memory in range(2048, 8193, 1024) : "1024/${memory}"],
      [for memory in range(4096, 16385, 1024) : "2048/${memory}"],
      [for memory in range(8192, 30721, 1024) : "4096/${memory}"],
    ]), "${var.task.cpu}/${var.task.memory}")
    error_message = "task: Fargate has no ${var.task.cpu} CPU units with ${var.task.memory} MiB: choose for example 512/1024, 1024/2048 or 2048/4096."
  }

  # A worker takes about 350 MiB.
  validation {
    condition     = var.task.workers >= 1 && var.task.memory >= 512 * (var.task.workers)
    error_message = "task.workers: give at least one, and 512 MiB of memory for each: raise task.memory or lower task.workers."
  }

  validation {
    condition     = var.task.min_count >= 1
    error_message = "task.min_count must be at least 1: a shut-down by schedule sets 0 itself."
  }

  validation {
    condition     = var.task.max_count >= var.task.min_count
    error_message = "task.max_count must be at least min_count: raise max_count or lower min_count."
  }

  validation {
    condition     = var.task.requests_per_minute > 0
    error_message = "task.requests_per_minute must be above 0: it is what one task gets before another is added."
  }
}

variable "vpc_id" {
  description = "ID of the VPC."
  type        = string
  nullable    = false
}
