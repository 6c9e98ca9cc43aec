terraform {
  required_version = ">= 1.11, < 2.0"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 5.100"
    }
  }

  # Bucket and region are named by `make`: terraform/bootstrap made the bucket, and its name holds the account.
  backend "s3" {
    key          = "environments/prod.tfstate"
    use_lockfile = true
  }
}

provider "aws" {
  region = var.region

  default_tags {
    tags = local.tags
  }
}

locals {
  platform = yamldecode(file("${path.module}/../../platform.yaml"))

  tags = {
    Project     = local.platform.name
    Environment = "prod"
    ManagedBy   = "terraform"
    CostCenter  = var.cost_center
  }
}
