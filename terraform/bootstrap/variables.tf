variable "access_log_bucket" {
  description = "Bucket of this account that receives the access logs of the state bucket; null keeps none."
  type        = string
  default     = null

  validation {
    condition     = var.access_log_bucket == null || can(regex("^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", var.access_log_bucket))
    error_message = "access_log_bucket must be the name of an S3 bucket: give its name, not its ARN or URL."
  }
}

variable "cost_center" {
  description = "Value of the CostCenter tag on everything made here."
  type        = string
  default     = "ml-platform"
  nullable    = false
}

variable "create_github_oidc_provider" {
  description = "Whether to make the account's GitHub identity provider; an account has one, so false where another stack made it."
  type        = bool
  default     = true
  nullable    = false
}

variable "github_branches" {
  description = "Branches whose workflow runs may take the CI role when they name no GitHub environment."
  type        = list(string)
  default     = ["main"]
  nullable    = false

  validation {
    condition     = alltrue([for branch in var.github_branches : can(regex("^[A-Za-z0-9][A-Za-z0-9._/-]*$", branch))])
    error_message = "github_branches must be plain branch names: list each branch, without wildcards or refs/heads/."
  }

  validation {
    condition     = length(var.github_branches) + length(var.github_environments) > 0
    error_message = "Nobody could take the CI role: name at least one of github_branches or github_environments."
  }
}

variable "github_environments" {
  description = "GitHub environments whose jobs may take the CI role; their protection rules are the approval."
  type        = list(string)
  default     = ["dev", "staging", "prod"]
  nullable    = false

  validation {
    condition     = alltrue([for name in var.github_environments : can(regex("^[A-Za-z0-9][A-Za-z0-9._-]*$", name))])
    error_message = "github_environments must be plain environment names: list each one, without wildcards."
  }
}

variable "github_repository" {
  description = "The one GitHub repository that may take the CI role, as owner/name."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[A-Za-z0-9][A-Za-z0-9-]*/[A-Za-z0-9._-]+$", var.github_repository))
    error_message = "github_repository must be one repository as owner/name: give it without https://, .git or wildcards."
  }
}

variable "image_retention_count" {
  description = "How many tagged images each repository keeps; older ones expire."
  type        = number
  default     = 50
  nullable    = false

  validation {
    condition     = var.image_retention_count >= 10 && var.image_retention_count <= 1000
    error_message = "image_retention_count must be 10 to 1000: fewer would expire images that an environment still runs."
  }
}

variable "region" {
  description = "Region of the state bucket and the image repositories; the environments live in the same one. `make bootstrap` gives the one that your AWS tools are set to, and writes it down."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.region))
    error_message = "region must be the code of an AWS region: write it like us-east-1."
  }
}

variable "state_version_days" {
  description = "Days an older version of a state file is kept, for going back after a bad apply."
  type        = number
  default     = 365
  nullable    = false

  validation {
    condition     = var.state_version_days >= 30
    error_message = "state_version_days must be at least 30: a broken state is often noticed late, raise it."
  }
}

variable "untagged_image_days" {
  description = "Days after which an image without a tag expires."
  type        = number
  default     = 7
  nullable    = false

  validation {
    condition     = var.untagged_image_days >= 1 && var.untagged_image_days <= 90
    error_message = "untagged_image_days must be 1 to 90: images without a tag are left-overs of broken pushes."
  }
}
