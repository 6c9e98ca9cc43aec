variable "airflow_environment_name" {
  description = "Name of the MWAA environment."
  type        = string
  nullable    = false
}

variable "cluster_name" {
  description = "Name of the EKS cluster."
  type        = string
  nullable    = false
}

variable "email_addresses" {
  description = "Who gets alarms and the pipeline's messages by e-mail; each address has to confirm twice, once for each topic."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for address in var.email_addresses : can(regex("^[^@\\s]+@[^@\\s]+\\.[^@\\s]+$", address))])
    error_message = "email_addresses must be e-mail addresses, such as ml-team@example.com."
  }
}

variable "endpoint_names" {
  description = "Names of the SageMaker endpoints, by dataset."
  type        = map(string)
  default     = {}
  nullable    = false
}

variable "environment" {
  description = "Name of the environment, as monitoring's metrics have it; null leaves the alarms on live models out."
  type        = string
  default     = null
}

variable "global_name" {
  description = "Prefix of names that the account has once for all regions (the dashboard); null takes name."
  type        = string
  default     = null
}

variable "kms_key_arn" {
  description = "Key for the topics' messages; its policy must let CloudWatch and AWS Budgets use it."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^arn:[a-z-]+:kms:", var.kms_key_arn))
    error_message = "kms_key_arn must be the ARN of a KMS key: take kms_key_arn of the storage module."
  }
}

variable "landing_dead_letter_queue_name" {
  description = "Name of the queue for notices of landed files that nobody could take in."
  type        = string
  nullable    = false
}

variable "mlflow" {
  description = "What to watch of the MLflow server; always_on = false when it is stopped at night, so that this raises no alarm."
  type = object({
    load_balancer_arn_suffix = string
    target_group_arn_suffix  = string
    database_identifier      = string
    cluster_name             = optional(string)
    service_name             = optional(string)
    always_on                = optional(bool, true)
  })
  nullable = false
}

variable "name" {
  description = "Prefix of all names, for example ml-platform-dev."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{0,38}[a-z0-9]$", var.name))
    error_message = "name must begin with a letter, have lower-case letters, digits and hyphens only, and at most 40 characters."
  }
}

variable "runbook_base_url" {
  description = "Address of the folder docs/runbooks, without a slash at its end; alarms link <runbook_base_url>/<alarm key>.md."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^https://.*[^/]$", var.runbook_base_url))
    error_message = "runbook_base_url must begin with https:// and must not end with a slash."
  }
}

variable "thresholds" {
  description = "From when on things are bad."
  type = object({
    # Minutes in which there was always a task that waited for a worker.
    queued_tasks_minutes = optional(number, 30)
    # How often a pod is seen as failed within 15 minutes; each is looked at once a minute until it is deleted.
    failed_pods = optional(number, 3)
    # Minutes in which there was always a pod without a node; a GPU node takes up to ten minutes to come.
    pending_pods_minutes = optional(number, 40)
    # Minutes with GPU nodes that do nothing, and below which percentage of use that is.
    gpu_idle_minutes = optional(number, 60)
    gpu_idle_percent = optional(number, 5)
    # Server errors of MLflow or its load balancer within 5 minutes.
    mlflow_server_errors = optional(number, 5)
    database_cpu_percent = optional(number, 80)
    database_connections = optional(number, 80)
    database_free_gib    = optional(number, 5)
    # Server errors of an endpoint within 5 minutes, twice in a row.
    endpoint_server_errors  = optional(number, 5)
    endpoint_latency_p99_ms = optional(number, 500)
    # Hours without a single request; null for endpoints that are asked now and then.
    endpoint_silence_hours = optional(number)
  })
  default  = {}
  nullable = false

  validation {
    condition = alltrue([
      for minutes in [
        var.thresholds.queued_tasks_minutes, var.thresholds.pending_pods_minutes, var.thresholds.gpu_idle_minutes
      ] : minutes >= 5 && minutes <= 1440 && minutes % 5 == 0
    ])
    error_message = "thresholds: queued_tasks_minutes, pending_pods_minutes and gpu_idle_minutes must be multiples of 5 from 5 to 1440: CloudWatch looks at five minutes at a time, and back for a day at most."
  }

  validation {
    condition = alltrue([
      for percent in [var.thresholds.gpu_idle_percent, var.thresholds.database_cpu_percent] : percent > 0 && percent <= 100
    ])
    error_message = "thresholds: gpu_idle_percent and database_cpu_percent must be more than 0 and at most 100."
  }

  validation {
    condition = alltrue([
      for number in [
        var.thresholds.failed_pods, var.thresholds.mlflow_server_errors, var.thresholds.database_connections,
        var.thresholds.database_free_gib, var.thresholds.endpoint_server_errors, var.thresholds.endpoint_latency_p99_ms
      ] : number > 0
    ])
    error_message = "thresholds: counts, sizes and times must be more than 0, or the alarm would never be quiet."
  }

  validation {
    condition = var.thresholds.endpoint_silence_hours == null ? true : (
      var.thresholds.endpoint_silence_hours >= 1 && var.thresholds.endpoint_silence_hours <= 168
      && var.thresholds.endpoint_silence_hours == floor(var.thresholds.endpoint_silence_hours)
    )
    error_message = "thresholds.endpoint_silence_hours must be a whole number from 1 to 168, a week, or null for no such alarm."
  }
}
