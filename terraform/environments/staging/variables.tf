variable "admin_role_arns" {
  description = "Roles of the people who administer the cluster and run `make cluster-config`; none means the role that applies first does."
  type        = list(string)
  nullable    = false
  default     = []
}

variable "airflow_page_public" {
  description = "Whether Airflow's page can be reached from the internet, behind AWS sign-in; otherwise by `make open` and private clients."
  type        = bool
  nullable    = false
  default     = false
}

variable "alert_email_addresses" {
  description = "Who is told of alarms, spending and the pipeline's decisions; each address has to confirm once."
  type        = list(string)
  nullable    = false
  default     = []
}

variable "allow_unprotected_production" {
  description = "Lets deletion_protection be false in production, which `make destroy` needs for the way out."
  type        = bool
  nullable    = false
  default     = false
}

variable "availability_zones" {
  description = "Names of the network's zones, where they are not to be chosen; append only. Null: chosen once, by what they have."
  type        = list(string)
  default     = null
}

variable "cost_center" {
  description = "Value of the tag CostCenter on everything."
  type        = string
  nullable    = false
  default     = "ml-platform"
}

variable "deletion_protection" {
  description = "Whether data, database and load balancer refuse to be deleted; null takes the environment's own choice."
  type        = bool
  default     = null
}

variable "final_database_snapshot" {
  description = "Whether the database leaves a last snapshot when it is destroyed; null takes the environment's own choice."
  type        = bool
  default     = null
}

variable "git_sha" {
  description = "Commit the images were built from; written by `make images`."
  type        = string
  nullable    = false
  default     = "unknown"
}

variable "images" {
  description = "Image references by digest; written by `make images` into images.auto.tfvars.json."
  type = object({
    deployer     = string
    mlflow       = string
    serving      = string
    trainer      = string
    trainer_cuda = string
  })
  nullable = false
}

variable "mlflow_certificate_arn" {
  description = "ACM certificate for MLflow's internal name, where one is at hand."
  type        = string
  default     = null
}

variable "mlflow_domain_name" {
  description = "Internal name of MLflow, which its certificate is for; null makes one up."
  type        = string
  default     = null
}

variable "operator_cidrs" {
  description = "Public address ranges from which people reach the cluster's API; none means by `make open` and private clients."
  type        = list(string)
  nullable    = false
  default     = []
}

variable "permissions_boundary_arn" {
  description = "Boundary that every role carries; terraform/bootstrap makes one, and the CI role can make no role without it."
  type        = string
  default     = null
}

variable "private_client_cidrs" {
  description = "Private networks (VPN, peered VPCs) from which people reach Airflow's page, MLflow and the cluster's API."
  type        = list(string)
  nullable    = false
  default     = []
}

variable "private_client_security_group_ids" {
  description = "Security groups whose members reach the same, by a name such as vpn."
  type        = map(string)
  nullable    = false
  default     = {}
}

variable "region" {
  description = "AWS region of everything but the budget; `make` gives the one that your AWS tools are set to."
  type        = string
  nullable    = false
}

variable "restore_database_snapshot" {
  description = "Snapshot that MLflow's database begins with; written by `make destroy KEEP_DATA=1`."
  type        = string
  default     = null
}

variable "runbook_base_url" {
  description = "Where docs/runbooks of your clone can be read; alarms link to it."
  type        = string
  nullable    = false
  default     = "https://github.com/your-org/ml-platform/blob/main/docs/runbooks"
}
