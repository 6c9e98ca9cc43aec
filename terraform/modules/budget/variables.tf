variable "activate_cost_allocation_tags" {
  description = "Activate the tags Project, Environment, CostCenter, dataset and owner for cost reports; only possible in the account that pays, and once AWS has seen them on something."
  type        = bool
  default     = false
  nullable    = false
}

variable "alarms_topic_arn" {
  description = "Topic for budget alerts and for a nightly shutdown that failed; null for e-mail only."
  type        = string
  default     = null
}

variable "alert_percentages" {
  description = "Percentages of the limit at which people are told: of what was spent, and of what the month is going to cost."
  type = object({
    actual   = optional(list(number), [50, 80, 100])
    forecast = optional(list(number), [100])
  })
  default  = {}
  nullable = false

  validation {
    condition = (
      length(var.alert_percentages.actual) + length(var.alert_percentages.forecast) >= 1
      && length(var.alert_percentages.actual) + length(var.alert_percentages.forecast) <= 10
    )
    error_message = "alert_percentages: a budget has 1 to 10 alerts: name fewer or more percentages."
  }

  validation {
    condition = alltrue([
      for percentage in concat(var.alert_percentages.actual, var.alert_percentages.forecast) : percentage > 0 && percentage <= 1000
    ])
    error_message = "alert_percentages must be more than 0 and at most 1000 percent of the limit."
  }
}

variable "email_addresses" {
  description = "Who gets budget alerts by e-mail; AWS Budgets asks for no confirmation."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for address in var.email_addresses : can(regex("^[^@\\s]+@[^@\\s]+\\.[^@\\s]+$", address))])
    error_message = "email_addresses must be e-mail addresses, such as ml-team@example.com."
  }

  validation {
    condition     = length(var.email_addresses) <= 10
    error_message = "email_addresses: AWS Budgets takes at most 10 addresses: use a mailing list."
  }

  validation {
    condition     = length(var.email_addresses) > 0 || var.alarms_topic_arn != null
    error_message = "email_addresses: nobody would hear of an alert: give an address, or alarms_topic_arn."
  }
}

variable "environment" {
  description = "Value of the tag Environment whose costs count."
  type        = string
  nullable    = false
}

variable "global_name" {
  description = "Prefix of names that the account has once for all regions (budget and role); null takes name."
  type        = string
  default     = null
}

variable "kms_key_arn" {
  description = "Key for the schedules and for the queue of calls that failed."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^arn:[a-z-]+:kms:", var.kms_key_arn))
    error_message = "kms_key_arn must be the ARN of a KMS key: take kms_key_arn of the storage module."
  }
}

variable "monthly_limit_usd" {
  description = "What a month may cost, in US dollars, without tax and before credits."
  type        = number
  nullable    = false

  validation {
    condition     = var.monthly_limit_usd > 0
    error_message = "monthly_limit_usd must be more than 0: `make cost` estimates what the environment costs."
  }
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

variable "permissions_boundary_arn" {
  description = "ARN of the policy that bounds the role made here; null for no boundary."
  type        = string
  default     = null
}

variable "project" {
  description = "Value of the tag Project whose costs count."
  type        = string
  default     = "ml-platform"
  nullable    = false
}

variable "runbook_base_url" {
  description = "Address of the folder with the runbooks, without a slash at its end; null leaves the link out of the alarm."
  type        = string
  default     = null

  validation {
    condition     = var.runbook_base_url == null ? true : can(regex("^https://.*[^/]$", var.runbook_base_url))
    error_message = "runbook_base_url must begin with https:// and must not end with a slash."
  }
}

variable "shutdown" {
  description = "What is stopped at night and started in the morning, and when; null for an environment that is always on."
  type = object({
    # cron(<minute> <hour> <day of month> <month> <day of week> <year>), as EventBridge Scheduler reads it. Without
    # start_schedule things stay down until somebody starts them.
    stop_schedule  = string
    start_schedule = optional(string)
    timezone       = optional(string, "UTC")

    database_identifier = optional(string)
    ecs = optional(object({
      cluster = string
      service = string
      # Tasks in the morning: the scalable target's minimum.
      count = number
      # Whether application autoscaling keeps the service between a minimum and a maximum.
      scaled = optional(bool, true)
    }))
    node_groups = optional(object({
      cluster = string
      # By node group; sizes in the morning.
      sizes = map(object({ min_size = number, max_size = number, desired_size = optional(number) }))
    }))
  })
  default = null

  validation {
    condition = alltrue([
      for schedule in var.shutdown == null ? [] : compact([var.shutdown.stop_schedule, var.shutdown.start_schedule]) :
      can(regex("^cron\\(([0-9]|[1-5][0-9]) ([0-9]|1[0-9]|2[0-2]) \\S+ \\S+ \\S+ \\S+\\)$", schedule))
    ])
    error_message = "shutdown: stop_schedule and start_schedule must be like cron(0 20 ? * MON-FRI *), with one minute and one hour up to 22: the database follows 15 minutes after, or goes before, the services that use it."
  }

  validation {
    condition     = var.shutdown == null ? true : can(regex("^(UTC|[A-Z][A-Za-z_]+/[A-Za-z0-9_+/-]+)$", var.shutdown.timezone))
    error_message = "shutdown.timezone must be UTC or a name like Europe/Berlin."
  }

  validation {
    condition = var.shutdown == null ? true : anytrue([
      var.shutdown.database_identifier != null, var.shutdown.ecs != null, var.shutdown.node_groups != null
    ])
    error_message = "shutdown: there is nothing to stop: give database_identifier, ecs or node_groups, or set shutdown = null."
  }

  validation {
    condition     = try(var.shutdown.ecs.count, 1) >= 1
    error_message = "shutdown.ecs.count must be at least 1: it is the number of tasks that are started in the morning."
  }

  validation {
    condition = alltrue([
      for size in values(try(var.shutdown.node_groups.sizes, {})) : (
        size.min_size >= 0 && size.max_size >= 1 && size.min_size <= size.max_size
        && coalesce(size.desired_size, size.min_size) >= size.min_size && coalesce(size.desired_size, size.min_size) <= size.max_size
      )
    ])
    error_message = "shutdown.node_groups.sizes: a node group needs 0 <= min_size <= desired_size <= max_size, and a max_size of at least 1."
  }
}
