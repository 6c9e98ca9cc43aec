variable "airflow_version" {
  description = "Version of Airflow, one that MWAA offers; dags/constraints.txt must be of the same version."
  type        = string
  default     = "3.2.1"
  nullable    = false

  validation {
    condition     = can(regex("^3\\.([2-9]|[1-9][0-9])\\.[0-9]+$", var.airflow_version))
    error_message = "airflow_version ${var.airflow_version} is not supported: name a version of Airflow 3 from 3.2.0 on, as 3.2.1 (older ones have no human approval)."
  }
}

variable "buckets" {
  description = "The buckets that the DAGs' own Python works with."
  type = object({
    artifacts = object({ name = string, arn = string })
    data      = object({ name = string, arn = string })
    landing   = object({ name = string, arn = string })
  })
  nullable = false
}

variable "client_cidrs" {
  description = "Private networks from which people reach Airflow's page."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for cidr in var.client_cidrs : try(cidrhost(cidr, 0) == split("/", cidr)[0] && tonumber(split("/", cidr)[1]) >= 8, false)])
    error_message = "client_cidrs must be IPv4 networks that start at their network address, /8 or smaller: write them like 10.0.0.0/16."
  }
}

variable "client_security_group_ids" {
  description = "Security groups whose members reach Airflow's page, by a name of your choice."
  type        = map(string)
  default     = {}
  nullable    = false
}

variable "cluster" {
  description = "The Kubernetes cluster that runs the steps, for the kubeconfig."
  type = object({
    name                  = string
    arn                   = string
    endpoint              = string
    certificate_authority = string
  })
  nullable = false
}

variable "configuration_options" {
  description = "Airflow's options as `section.option`, laid over those of configuration_options.yaml."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = alltrue([for key in keys(var.configuration_options) : can(regex("^[a-z_]+\\.[a-z0-9_]+$", key))])
    error_message = "configuration_options: write every key as section.option, for example core.parallelism."
  }

  # What MWAA sets itself, last, whatever is asked; the list is of its public images' essential configuration.
  validation {
    condition = length([
      for key in keys(var.configuration_options) : key
      if can(regex("^(api_auth|celery_broker_transport_options|database|execution_api|metrics)\\.", key)) &&
      !contains(["metrics.metrics_allow_list", "metrics.metrics_block_list", "metrics.statsd_on"], key) ||
      can(regex("^core\\.(auth_manager|dags_folder|execution_api_server_url|executor|fernet_key|load_examples|multi_team|simple_auth_manager_.*)$", key)) ||
      can(regex("^(api\\.(base_url|secret_key)|fab\\.config_file|logging\\.(colored_console_log|logging_config_class)|operators\\.default_queue|scheduler\\.standalone_dag_processor|triggerer\\.queues_enabled)$", key)) ||
      can(regex("^celery\\.(broker_url|celery_config_options|extra_celery_config|result_backend|worker_enable_remote_control)$", key))
    ]) == 0
    error_message = "configuration_options: MWAA sets executor, authentication, database, queue, metrics and keys itself and would ignore yours: remove core.executor, core.auth_manager, database.*, api_auth.*, celery.broker_url, metrics.* (but the lists and statsd_on) and the like."
  }
}

variable "dags_bucket" {
  description = "The bucket of the DAGs, with versioning on and public access blocked."
  type        = object({ name = string, arn = string })
  nullable    = false
}

variable "dags_path" {
  description = "Folder with requirements.txt, constraints.txt and startup.sh: the repository's dags/."
  type        = string
  nullable    = false

  validation {
    condition = alltrue([
      for file in ["constraints.txt", "requirements.txt", "startup.sh"] : fileexists("${var.dags_path}/${file}")
    ])
    error_message = "dags_path ${var.dags_path} lacks requirements.txt, constraints.txt or startup.sh: name the repository's dags/ folder."
  }
}

variable "environment_class" {
  description = "Size of the environment: mw1.micro, mw1.small, mw1.medium, mw1.large, mw1.xlarge or mw1.2xlarge."
  type        = string
  default     = "mw1.small"
  nullable    = false

  validation {
    condition     = can(regex("^mw1\\.(micro|small|medium|large|xlarge|2xlarge)$", var.environment_class))
    error_message = "environment_class ${var.environment_class} is unknown: choose mw1.micro, mw1.small, mw1.medium, mw1.large, mw1.xlarge or mw1.2xlarge."
  }
}

variable "global_name" {
  description = "Prefix of names that the account has once for all regions (the role); null takes name."
  type        = string
  default     = null
}

variable "http_egress_cidrs" {
  description = "CIDR blocks that tasks may reach over plain HTTP (port 80); the VPC's where MLflow has no certificate."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for cidr in var.http_egress_cidrs : can(cidrnetmask(cidr)) && try(tonumber(split("/", cidr)[1]) >= 8, false)])
    error_message = "http_egress_cidrs: give IPv4 blocks inside the VPC, of /8 or smaller; plain HTTP must not leave it."
  }
}

variable "kms_key_arn" {
  description = "ARN of the environment's key: Airflow's own data, its logs and the objects in the DAG bucket."
  type        = string
  nullable    = false
}

variable "log_level" {
  description = "Lowest level that is logged: CRITICAL, ERROR, WARNING, INFO or DEBUG."
  type        = string
  default     = "INFO"
  nullable    = false

  validation {
    condition     = contains(["CRITICAL", "ERROR", "WARNING", "INFO", "DEBUG"], var.log_level)
    error_message = "log_level ${var.log_level} is unknown: choose CRITICAL, ERROR, WARNING, INFO or DEBUG."
  }
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

variable "maintenance_window_start" {
  description = "When the weekly maintenance starts, in UTC, as DAY:HH:MM on the half-hour."
  type        = string
  default     = "SUN:02:00"
  nullable    = false

  validation {
    condition     = can(regex("^(MON|TUE|WED|THU|FRI|SAT|SUN):([01][0-9]|2[0-3]):(00|30)$", var.maintenance_window_start))
    error_message = "maintenance_window_start ${var.maintenance_window_start} is not a time: write DAY:HH:MM on the half-hour, for example SUN:02:00."
  }
}

variable "max_workers" {
  description = "Most workers that autoscaling may start; null: 1 for mw1.micro, else 5."
  type        = number
  default     = null

  validation {
    condition     = var.max_workers == null ? true : var.max_workers >= var.min_workers && var.max_workers <= 25
    error_message = "max_workers must be between min_workers and 25: raise max_workers or lower min_workers."
  }

  validation {
    condition     = var.environment_class == "mw1.micro" ? coalesce(var.max_workers, 1) == 1 : true
    error_message = "mw1.micro has one worker and no autoscaling: leave max_workers out, or choose mw1.small or larger."
  }
}

variable "min_workers" {
  description = "Workers that always run."
  type        = number
  default     = 1
  nullable    = false

  validation {
    condition     = var.min_workers >= 1
    error_message = "min_workers must be at least 1: MWAA keeps one worker."
  }

  validation {
    condition     = var.environment_class == "mw1.micro" ? var.min_workers == 1 : true
    error_message = "mw1.micro has one worker and no autoscaling: set min_workers to 1, or choose mw1.small or larger."
  }
}

variable "name" {
  description = "Name of the environment and first part of every name, as ml-platform-dev."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,38}[a-z0-9]$", var.name))
    error_message = "name ${var.name} is not usable: 3 to 40 small letters, digits and hyphens, a letter first and no hyphen last."
  }
}

variable "permissions_boundary_arn" {
  description = "ARN of the policy that bounds the role's rights; null for none."
  type        = string
  default     = null
}

variable "platform" {
  description = "What becomes dags/platform.json, the facts that the DAGs' configuration is completed with."
  type        = any # passed on whole: an object type would silently drop what it does not know
  nullable    = false

  validation {
    condition = alltrue([
      can(var.platform.environment),
      can(var.platform.git_sha),
      can(var.platform.aws.region),
      can(var.platform.aws.account_id),
      can(var.platform.buckets.landing),
      can(var.platform.buckets.data),
      can(var.platform.buckets.artifacts),
      can(var.platform.kubernetes.kubeconfig),
      can(var.platform.kubernetes.context),
      can(var.platform.images.trainer),
      can(var.platform.images.trainer_cuda),
      can(var.platform.images.deployer),
      can(var.platform.images.serving),
      can(var.platform.mlflow.tracking_uri),
      can(var.platform.serving.execution_role_arn),
      can(var.platform.serving.endpoint_name),
      can(var.platform.notifications.topic_arn),
    ])
    error_message = "platform lacks a key that the DAGs need: give environment, git_sha, aws {region, account_id}, buckets {landing, data, artifacts}, kubernetes {kubeconfig, context}, images {trainer, trainer_cuda, deployer, serving}, mlflow {tracking_uri}, serving {execution_role_arn, endpoint_name} and notifications {topic_arn}."
  }

  validation {
    condition     = try(var.platform.kubernetes.kubeconfig, "kubeconfig") == "kubeconfig"
    error_message = "platform.kubernetes.kubeconfig must be \"kubeconfig\": that is where this module puts it, beside the DAGs."
  }

  validation {
    condition     = try(var.platform.kubernetes.context, var.cluster.name) == var.cluster.name
    error_message = "platform.kubernetes.context must be cluster.name, as the kubeconfig's only context is called."
  }
}

variable "private_subnet_ids" {
  description = "Private subnets in different zones; the first two are used."
  type        = list(string)
  nullable    = false

  validation {
    condition     = length(var.private_subnet_ids) >= 2
    error_message = "private_subnet_ids needs two subnets in two zones: MWAA takes no fewer."
  }
}

variable "schedulers" {
  description = "Schedulers, each with a triggerer; null: 1 for mw1.micro, else 2."
  type        = number
  default     = null

  validation {
    condition     = var.environment_class == "mw1.micro" ? coalesce(var.schedulers, 1) == 1 : true
    error_message = "mw1.micro has one scheduler: leave schedulers out, or choose mw1.small or larger."
  }

  validation {
    condition     = var.environment_class == "mw1.micro" ? true : contains([2, 3, 4, 5], coalesce(var.schedulers, 2))
    error_message = "schedulers must be 2 to 5 for ${var.environment_class}."
  }
}

variable "smtp_egress_cidrs" {
  description = "CIDR blocks of the mail server that tasks may reach (port 587, STARTTLS), for notifications by e-mail."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for cidr in var.smtp_egress_cidrs : can(cidrnetmask(cidr))])
    error_message = "smtp_egress_cidrs: give IPv4 blocks such as 10.20.0.0/16."
  }
}

variable "topic_arn" {
  description = "ARN of the topic that the DAGs' messages to people go to."
  type        = string
  nullable    = false
}

variable "vpc_id" {
  description = "ID of the VPC."
  type        = string
  nullable    = false
}

variable "webserver_access_mode" {
  description = "PRIVATE_ONLY: the web server answers inside the VPC only; PUBLIC_ONLY: on the internet, to IAM identities."
  type        = string
  default     = "PRIVATE_ONLY"
  nullable    = false

  validation {
    condition     = contains(["PRIVATE_ONLY", "PUBLIC_ONLY"], var.webserver_access_mode)
    error_message = "webserver_access_mode ${var.webserver_access_mode} is unknown: choose PRIVATE_ONLY (reached through the VPC, as over a VPN) or, knowingly, PUBLIC_ONLY (on the internet; signing in takes IAM rights)."
  }
}

variable "wheels_path" {
  description = "Folder with the wheels of requirements.txt, as `make apply` makes them: the repository's .local/mwaa."
  type        = string
  nullable    = false
}
