variable "alarm_topic_arns" {
  description = "Topics that the rollback alarms notify; empty, because the observability module has alarms for people."
  type        = list(string)
  default     = []
  nullable    = false
}

variable "artifacts_bucket" {
  description = "Bucket from whose prefix models/ endpoints load their model."
  type        = object({ name = string, arn = string })
  nullable    = false
}

variable "data_bucket" {
  description = "Bucket to whose prefix capture/ endpoints write a sample of requests and answers."
  type        = object({ name = string, arn = string })
  nullable    = false
}

variable "endpoints" {
  description = "Endpoints by dataset; the endpoint of a dataset is called <name>-<dataset>."
  type = map(object({
    instance_type      = string
    instance_count     = optional(number, 1)
    max_instance_count = optional(number)
    # Whether the endpoint stands before the first deployment. If not, the deployer creates it.
    at_rest                 = optional(bool, true)
    data_capture_percentage = optional(number, 10)
    # Autoscaling adds instances when one gets more requests a minute than this.
    invocations_per_instance = optional(number, 3000)
    startup_timeout_seconds  = optional(number, 600)
    # What makes the deployer roll back; shares are of requests, from 0 to 1.
    alarms = optional(object({
      server_error_share = optional(number, 0.01)
      client_error_share = optional(number, 0.25)
      latency_p99_ms     = optional(number, 500)
      overhead_p99_ms    = optional(number, 1000)
    }), {})
  }))
  nullable = false

  validation {
    condition     = alltrue([for dataset in keys(var.endpoints) : can(regex("^[a-z0-9]([a-z0-9-]*[a-z0-9])?$", dataset))])
    error_message = "endpoints: a key is a dataset's name: use lower-case letters, digits and hyphens, and neither begin nor end with a hyphen."
  }

  validation {
    condition     = alltrue([for dataset in keys(var.endpoints) : length("${var.name}-${dataset}-bootstrap") <= 63])
    error_message = "endpoints: <name>-<dataset>-bootstrap must have at most 63 characters, SageMaker's limit: shorten name or the dataset's name."
  }

  validation {
    # The families that SageMaker hosts on, without those with ARM processors: the serving image is built for x86-64.
    condition = alltrue([
      for endpoint in values(var.endpoints) : can(regex(
        "^ml\\.(t2|m4|m5d?|m6i|m7i|c4|c5d?|c6in?|c7i|r5d?|r6i|r7i|g4dn|g5|g6e?|p3|p4de?|p5|p5en?|inf[12])\\.(medium|large|xlarge|[0-9]+xlarge)$",
        endpoint.instance_type
      ))
    ])
    error_message = "endpoints.*.instance_type: unknown instance family: use a type like ml.m6i.large, of a family with x86-64 processors that SageMaker hosts endpoints on."
  }

  validation {
    condition = alltrue([
      for endpoint in values(var.endpoints) :
      endpoint.instance_count >= 1 && endpoint.instance_count == floor(endpoint.instance_count)
    ])
    error_message = "endpoints.*.instance_count must be a whole number of at least 1; for an endpoint that costs nothing until its first deployment set at_rest = false."
  }

  validation {
    condition = alltrue([
      for endpoint in values(var.endpoints) :
      endpoint.max_instance_count == null ? true : endpoint.max_instance_count >= endpoint.instance_count
    ])
    error_message = "endpoints.*.max_instance_count must be at least instance_count: raise max_instance_count or lower instance_count."
  }

  validation {
    condition = alltrue([
      for endpoint in values(var.endpoints) :
      endpoint.max_instance_count == null ? true : (
        endpoint.max_instance_count == endpoint.instance_count || !startswith(endpoint.instance_type, "ml.t2.")
      )
    ])
    error_message = "endpoints.*.max_instance_count: SageMaker does not scale burstable instances: take another instance_type than ml.t2, or leave max_instance_count out."
  }

  validation {
    condition = alltrue([
      for endpoint in values(var.endpoints) :
      endpoint.max_instance_count == null ? true : (
        endpoint.max_instance_count == endpoint.instance_count || endpoint.at_rest
      )
    ])
    error_message = "endpoints.*.max_instance_count: only an endpoint that Terraform creates can be registered for scaling: set at_rest = true, or leave max_instance_count out."
  }

  validation {
    condition = alltrue([
      for endpoint in values(var.endpoints) :
      endpoint.data_capture_percentage >= 0 && endpoint.data_capture_percentage <= 100
    ])
    error_message = "endpoints.*.data_capture_percentage must be from 0 (no capture) to 100."
  }

  validation {
    condition     = alltrue([for endpoint in values(var.endpoints) : endpoint.invocations_per_instance > 0])
    error_message = "endpoints.*.invocations_per_instance must be more than 0: set the requests a minute that one instance can answer."
  }

  validation {
    condition = alltrue([
      for endpoint in values(var.endpoints) :
      endpoint.startup_timeout_seconds >= 60 && endpoint.startup_timeout_seconds <= 3600
    ])
    error_message = "endpoints.*.startup_timeout_seconds must be from 60 to 3600, as SageMaker demands."
  }

  validation {
    condition = alltrue(flatten([
      for endpoint in values(var.endpoints) : [
        for share in [endpoint.alarms.server_error_share, endpoint.alarms.client_error_share] : share >= 0 && share < 1
      ]
    ]))
    error_message = "endpoints.*.alarms: server_error_share and client_error_share are shares of requests: set them from 0 to below 1, for example 0.01 for one in a hundred."
  }

  validation {
    condition = alltrue([
      for endpoint in values(var.endpoints) : endpoint.alarms.latency_p99_ms > 0 && endpoint.alarms.overhead_p99_ms > 0
    ])
    error_message = "endpoints.*.alarms: latency_p99_ms and overhead_p99_ms must be more than 0."
  }
}

variable "environment_variables" {
  description = "Environment of the bootstrap container, such as SERVING_MAX_IN_FLIGHT."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = length(setintersection(keys(var.environment_variables), ["MODEL_VERSION", "MODEL_DIGEST"])) == 0
    error_message = "environment_variables: MODEL_VERSION and MODEL_DIGEST belong to a deployed model, the bootstrap container has none: leave them out."
  }
}

variable "global_name" {
  description = "Prefix of names that the account has once for all regions (the role); null takes name."
  type        = string
  default     = null
}

variable "image" {
  description = "Serving image in ECR, by digest or by an immutable tag."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[0-9]{12}\\.dkr\\.ecr\\.[a-z0-9-]+\\.[a-z.]+/[a-z0-9._/-]+(@sha256:[0-9a-f]{64}|:[A-Za-z0-9._-]+)$", var.image))
    error_message = "image must be an image in a private ECR repository, as SageMaker demands, with a digest or a tag: <account>.dkr.ecr.<region>.amazonaws.com/<repository>@sha256:<digest>."
  }

  validation {
    condition     = !endswith(var.image, ":latest")
    error_message = "image: the tag latest does not say what runs: name the digest."
  }
}

variable "kms_key_arn" {
  description = "Key for logs, captured data, models and the endpoints' volumes."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^arn:[a-z-]+:kms:", var.kms_key_arn))
    error_message = "kms_key_arn must be the ARN of a KMS key: take kms_key_arn of the storage module."
  }
}

variable "log_retention_days" {
  description = "Days that the endpoints' logs are kept."
  type        = number
  default     = 90
  nullable    = false

  validation {
    condition     = contains([1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653], var.log_retention_days)
    error_message = "log_retention_days must be a number of days that CloudWatch Logs knows, such as 7, 30, 90 or 365."
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

variable "owners" {
  description = "Who owns a dataset, by dataset: the tag owner of what is made for it."
  type        = map(string)
  default     = {}
  nullable    = false
}

variable "permissions_boundary_arn" {
  description = "ARN of the policy that bounds the role made here; null for no boundary."
  type        = string
  default     = null
}

variable "runbook_base_url" {
  description = "Address of the folder with the runbooks, without a slash at its end; null leaves the link out of alarms."
  type        = string
  default     = null

  validation {
    condition     = var.runbook_base_url == null ? true : can(regex("^https://.*[^/]$", var.runbook_base_url))
    error_message = "runbook_base_url must begin with https:// and must not end with a slash."
  }
}

variable "vpc_config" {
  description = "Where containers run when they are to run in a VPC; null keeps them in SageMaker's network, isolated."
  type        = object({ vpc_id = string, subnet_ids = list(string) })
  default     = null

  validation {
    condition     = var.vpc_config == null ? true : length(var.vpc_config.subnet_ids) >= 2
    error_message = "vpc_config.subnet_ids: give at least two subnets in different zones, so that endpoints survive the loss of one."
  }
}
