variable "access_log_retention_days" {
  description = "Days the access logs of buckets and load balancers are kept."
  type        = number
  default     = 90
  nullable    = false

  validation {
    condition     = var.access_log_retention_days >= 1 && floor(var.access_log_retention_days) == var.access_log_retention_days
    error_message = "access_log_retention_days must be a whole number of days of at least 1."
  }
}

variable "bucket_suffix" {
  description = "End of the buckets' names, which makes them unique in the world: the account's number, and the region."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z0-9][a-z0-9-]{1,26}[a-z0-9]$", var.bucket_suffix))
    error_message = "bucket_suffix must be 3 to 28 lower-case letters, digits and hyphens: take the account's number and the region."
  }

  validation {
    condition     = length("${var.name}-artifacts-${var.bucket_suffix}") <= 63
    error_message = "bucket_suffix: <name>-artifacts-<bucket_suffix> must have at most 63 characters, S3's limit: shorten one of the two."
  }
}

variable "data_lifecycle" {
  description = "Days until captured requests expire, accepted data moves to Intelligent-Tiering, and runs move or expire; 0 is never."
  type = object({
    capture_expiration_days = optional(number, 90)
    raw_tiering_days        = optional(number, 30)
    runs_expiration_days    = optional(number, 0)
    runs_tiering_days       = optional(number, 30)
  })
  default  = {}
  nullable = false

  validation {
    condition     = alltrue([for days in values(var.data_lifecycle) : days >= 0 && floor(days) == days])
    error_message = "data_lifecycle must hold whole numbers of days: use 0 for never."
  }

  validation {
    condition = (
      var.data_lifecycle.runs_expiration_days == 0 ||
      var.data_lifecycle.runs_expiration_days > var.data_lifecycle.runs_tiering_days
    )
    error_message = "data_lifecycle.runs_expiration_days must be more than runs_tiering_days: raise it, or set runs_tiering_days to 0."
  }
}

variable "deletion_protection" {
  description = "Whether destroy refuses to delete buckets that hold something, and the key waits 30 days instead of 7."
  type        = bool
  default     = true
  nullable    = false
}

variable "kms_admin_arns" {
  description = "Roles or users that may manage the key (not use it), besides those whose own policies say so."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for arn in var.kms_admin_arns : can(regex("^arn:[a-z-]+:iam::[0-9]{12}:(role|user)/[^*]+$", arn))])
    error_message = "kms_admin_arns must be ARNs of IAM roles or users, without wildcards: the account's root is always in."
  }
}

variable "landing_event_prefixes" {
  description = "Folders of the landing bucket whose files are announced on the queue, one per dataset; an empty one is the whole bucket, with refused files and labels."
  type        = list(string)
  default     = [""]
  nullable    = false

  validation {
    condition     = alltrue([for prefix in var.landing_event_prefixes : prefix == "" || can(regex("^[a-z][a-z0-9-]*/$", prefix))])
    error_message = "landing_event_prefixes must be names of datasets with a slash, like flights/, or empty for the whole bucket."
  }

  validation {
    # S3 refuses two filters that one key could match.
    condition     = length(distinct(var.landing_event_prefixes)) == length(var.landing_event_prefixes) && (!contains(var.landing_event_prefixes, "") || length(var.landing_event_prefixes) == 1)
    error_message = "landing_event_prefixes must not overlap: name each dataset once, and none beside an empty prefix."
  }

  validation {
    condition     = length(setintersection(var.landing_event_prefixes, ["labels/", "quarantine/"])) == 0
    error_message = "landing_event_prefixes: labels/ and quarantine/ hold no data that has landed: leave them out."
  }
}

variable "landing_event_suffixes" {
  description = "Endings of the files in the landing bucket that are announced on the queue."
  type        = list(string)
  default     = [".parquet"]
  nullable    = false

  validation {
    condition     = length(var.landing_event_suffixes) > 0 && alltrue([for suffix in var.landing_event_suffixes : can(regex("^\\.[A-Za-z0-9.]+$", suffix))])
    error_message = "landing_event_suffixes must be endings of file names: write at least one, like .parquet."
  }

  validation {
    # S3 refuses two filters that one key could match.
    condition = alltrue(flatten([
      for index, suffix in var.landing_event_suffixes : [
        for other_index, other in var.landing_event_suffixes : index == other_index || !endswith(suffix, other)
      ]
    ]))
    error_message = "landing_event_suffixes must not overlap: leave out endings that another one already covers."
  }
}

variable "landing_expiration_days" {
  description = "Days a refused file stays under quarantine/ in the landing bucket; other files there never expire."
  type        = number
  default     = 90
  nullable    = false

  validation {
    condition     = var.landing_expiration_days >= 1 && floor(var.landing_expiration_days) == var.landing_expiration_days
    error_message = "landing_expiration_days must be a whole number of days of at least 1."
  }
}

variable "landing_queue" {
  description = "How often a message may be received, how long it is then hidden, and how many days it waits, before the dead-letter queue or the end."
  type = object({
    max_receive_count          = optional(number, 5)
    retention_days             = optional(number, 4)
    visibility_timeout_seconds = optional(number, 300)
  })
  default  = {}
  nullable = false

  validation {
    condition     = var.landing_queue.max_receive_count >= 1 && var.landing_queue.max_receive_count <= 1000
    error_message = "landing_queue.max_receive_count must be 1 to 1000."
  }

  validation {
    condition     = var.landing_queue.retention_days >= 1 && var.landing_queue.retention_days <= 13
    error_message = "landing_queue.retention_days must be 1 to 13: the dead-letter queue keeps 14 days, counted from when the message was sent."
  }

  validation {
    condition     = var.landing_queue.visibility_timeout_seconds >= 30 && var.landing_queue.visibility_timeout_seconds <= 43200
    error_message = "landing_queue.visibility_timeout_seconds must be 30 to 43200: below 30 seconds messages come twice."
  }
}

variable "name" {
  description = "Prefix of all names, such as ml-platform-dev."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{1,28}[a-z0-9]$", var.name))
    error_message = "name must be 3 to 30 lower-case letters, digits and hyphens: shorten it or remove other characters."
  }
}

variable "noncurrent_version_days" {
  description = "Days a replaced or deleted version of an object is kept, for undoing it."
  type        = number
  default     = 90
  nullable    = false

  validation {
    condition     = var.noncurrent_version_days >= 1 && floor(var.noncurrent_version_days) == var.noncurrent_version_days
    error_message = "noncurrent_version_days must be a whole number of days of at least 1."
  }
}
