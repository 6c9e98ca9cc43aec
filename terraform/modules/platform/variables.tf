variable "admin_role_arns" {
  description = "Roles of the people who administer the cluster; with none, the role that applies first does."
  type        = list(string)
  nullable    = false
  default     = []
}

variable "airflow" {
  description = "Size of the MWAA environment; mw1.micro has one scheduler and one worker and does not scale."
  type = object({
    environment_class     = string
    min_workers           = number
    max_workers           = number
    schedulers            = number
    version               = optional(string, "3.2.1")
    webserver_access_mode = optional(string, "PRIVATE_ONLY")
    configuration_options = optional(map(string), {})
    smtp_egress_cidrs     = optional(list(string), [])
  })
  nullable = false
}

variable "alert_email_addresses" {
  description = "Who is told of alarms, spending and the pipeline's decisions."
  type        = list(string)
  nullable    = false
  default     = []

  validation {
    condition     = alltrue([for address in var.alert_email_addresses : can(regex("^[^@\\s]+@[^@\\s]+\\.[^@\\s]+$", address))])
    error_message = "alert_email_addresses must be e-mail addresses, such as on-call@example.com: correct the one that is not."
  }
}

variable "allow_unprotected_production" {
  description = "Lets deletion_protection be false in production; meant for taking it down, never for running it."
  type        = bool
  nullable    = false
  default     = false
}

variable "availability_zones" {
  description = "Names of the zones of the network, where they are not to be chosen: such as those of a network that is there. Append to the list, nothing else; null chooses network.zones of them by what they have, and keeps to the choice."
  type        = list(string)
  default     = null
}

variable "bastion" {
  description = "The small instance through which people reach what is private, by Systems Manager; null for none."
  type        = object({ instance_type = string })
  default     = null
}

variable "budget" {
  description = "Monthly limit in US dollars, and when everything that can stop stops at night (cron expressions); null never."
  type = object({
    monthly_limit_usd = number
    shutdown = optional(object({
      stop     = string
      start    = string
      timezone = optional(string, "UTC")
    }))
  })
  nullable = false
}

variable "cluster" {
  description = "Kubernetes version and node pools: instance types in order of preference, and how many nodes at most. GPU nodes are spot first; on_demand_max_size is the fallback; gpu null for no GPUs, then everything trains on CPUs. gpus_per_node is what the instance types have: by it the autoscaler knows which pods a node that does not exist yet would take."
  type = object({
    kubernetes_version           = string
    endpoint_public_access_cidrs = optional(list(string), [])
    system = object({
      instance_types = list(string)
      min_size       = number
      max_size       = number
      disk_gib       = optional(number, 50)
    })
    cpu = object({
      instance_types = list(string)
      max_size       = number
      spot           = bool
      disk_gib       = optional(number, 100)
    })
    gpu = optional(object({
      instance_types     = list(string)
      max_size           = number
      on_demand_max_size = number
      gpus_per_node      = optional(number, 1)
      disk_gib           = optional(number, 150)
    }))
  })
  nullable = false
}

variable "deletion_protection" {
  description = "Whether data, database and load balancer refuse to be deleted."
  type        = bool
  nullable    = false

  validation {
    condition     = var.deletion_protection || var.environment != "prod" || var.allow_unprotected_production
    error_message = "deletion_protection must be true in prod: leave it on, or, to take production down, use `make destroy ENV=prod`, which sets allow_unprotected_production as well."
  }
}

variable "endpoint_silence_hours" {
  description = "After how many hours without a single request an endpoint raises an alarm; null for endpoints that are asked now and then."
  type        = number
  default     = null
}

variable "endpoints" {
  description = "SageMaker endpoints by dataset: size, and whether they stand while no model is deployed (at_rest)."
  type = map(object({
    instance_type      = string
    instance_count     = number
    max_instance_count = number
    at_rest            = optional(bool, true)

    data_capture_percentage  = optional(number, 10)
    invocations_per_instance = optional(number, 3000)
    startup_timeout_seconds  = optional(number, 600)
    alarms = optional(object({
      server_error_share = optional(number, 0.01)
      client_error_share = optional(number, 0.25)
      latency_p99_ms     = optional(number, 500)
      overhead_p99_ms    = optional(number, 1000)
    }), {})
  }))
  nullable = false

  validation {
    condition     = alltrue([for name in keys(var.endpoints) : can(regex("^[a-z][a-z0-9-]{0,24}$", name))])
    error_message = "endpoints: a key is the name of a dataset in config/models, up to 25 lower-case letters, digits and dashes: rename the one that is not."
  }
}

variable "environment" {
  description = "Name of the environment: dev, staging or prod."
  type        = string
  nullable    = false

  validation {
    condition     = contains(["dev", "staging", "prod"], var.environment)
    error_message = "environment must be one of dev, staging, prod: each has its file in config/ too."
  }
}

variable "git_sha" {
  description = "Commit the images were built from; becomes lineage of every model."
  type        = string
  nullable    = false
  default     = "unknown"
}

variable "images" {
  description = "Image references by digest."
  type = object({
    deployer     = string
    mlflow       = string
    serving      = string
    trainer      = string
    trainer_cuda = string
  })
  nullable = false

  validation {
    condition     = alltrue([for reference in values(var.images) : can(regex("@sha256:[0-9a-f]{64}$", reference))])
    error_message = "images must be named by digest (…@sha256:…), so that what was tested is what runs: run `make images`, which writes them down."
  }
}

variable "log_retention_days" {
  description = "How long logs are kept."
  type        = number
  nullable    = false
  default     = 30
}

variable "mlflow" {
  description = "Size of MLflow's database and service. Without a certificate, allow_http must say that plain HTTP inside the network will do."
  type = object({
    allow_http              = optional(bool, false)
    certificate_arn         = optional(string)
    domain_name             = optional(string)
    database_class          = string
    database_storage_gib    = number
    database_multi_az       = bool
    backup_retention_days   = number
    final_database_snapshot = bool
    restore_snapshot        = optional(string)
    task_cpu                = number
    task_memory             = number
    min_tasks               = number
    max_tasks               = number
  })
  nullable = false
}

variable "name" {
  description = "What all names of the platform begin with, in every environment, and the value of the tag Project."
  type        = string
  nullable    = false
  default     = "ml-platform"
}

variable "network" {
  description = "Address range; how many availability zones; one NAT gateway or one per zone; private endpoints of AWS services; and networks that this one is to be connected to. zones may go from 2 to 3 later, never back: network, load balancer, database, MLflow and private endpoints get the third. EKS and Airflow stay in the zones they were made in."
  type = object({
    cidr                = string
    zones               = number
    single_nat_gateway  = bool
    interface_endpoints = list(string)
    peer_cidrs          = optional(list(string), [])
  })
  nullable = false
}

variable "permissions_boundary_arn" {
  description = "Permissions boundary that every role carries; null for none."
  type        = string
  default     = null
}

variable "private_client_cidrs" {
  description = "Private networks from which people reach Airflow's page, MLflow and the Kubernetes API; a route from there is yours to make."
  type        = list(string)
  nullable    = false
  default     = []

  validation {
    condition     = alltrue([for cidr in var.private_client_cidrs : try(cidrhost(cidr, 0) == split("/", cidr)[0], false)])
    error_message = "private_client_cidrs must be IPv4 networks that start at their network address: write them like 10.0.0.0/16."
  }

  # Cut to the shorter prefix, a network inside of a range is that range.
  validation {
    condition = alltrue([
      for cidr in var.private_client_cidrs : try(anytrue([
        for range in ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10"] :
        tonumber(split("/", cidr)[1]) >= tonumber(split("/", range)[1]) &&
        cidrhost("${split("/", cidr)[0]}/${split("/", range)[1]}", 0) == split("/", range)[0]
      ]), true)
    ])
    error_message = "private_client_cidrs must lie in 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16 or 100.64.0.0/10: public addresses do not reach what is private."
  }

  validation {
    condition     = length(distinct(var.private_client_cidrs)) == length(var.private_client_cidrs)
    error_message = "private_client_cidrs must differ: name each network once."
  }
}

variable "private_client_security_group_ids" {
  description = "Security groups of this or a peered VPC whose members reach the same, by a name such as vpn."
  type        = map(string)
  nullable    = false
  default     = {}

  validation {
    condition     = alltrue([for id in values(var.private_client_security_group_ids) : can(regex("^([0-9]{12}/)?sg-[0-9a-f]{8,17}$", id))])
    error_message = "private_client_security_group_ids must be IDs of security groups: write them like sg-0123456789abcdef0."
  }

  validation {
    condition     = length(setintersection(keys(var.private_client_security_group_ids), ["airflow", "bastion", "cluster"])) == 0
    error_message = "private_client_security_group_ids: airflow, bastion and cluster are the platform's own: choose another name."
  }

  validation {
    condition     = length(distinct(values(var.private_client_security_group_ids))) == length(var.private_client_security_group_ids)
    error_message = "private_client_security_group_ids must differ: AWS takes no rule twice; name each group once."
  }
}

variable "region" {
  description = "AWS region."
  type        = string
  nullable    = false
}

variable "region_in_names" {
  description = "Whether the names that an account has once for all regions carry the region; false only for a platform that was made without."
  type        = bool
  nullable    = false
  default     = true
}

variable "runbook_base_url" {
  description = "Where docs/runbooks can be read; alarms link to it."
  type        = string
  nullable    = false
}

variable "spark" {
  description = "Ceiling of the Spark application that prepares what does not fit a pod; null for none."
  type = object({
    maximum_vcpu       = optional(number, 128)
    maximum_memory_gib = optional(number, 512)
  })
  default = null
}

variable "tags" {
  description = "Tags for what the provider's default tags do not reach: nodes and their disks."
  type        = map(string)
  nullable    = false
  default     = {}
}
