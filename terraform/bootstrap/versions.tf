terraform {
  required_version = ">= 1.11, < 2.0"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = "~> 5.100"
    }
  }

  # The first apply has no bucket to keep its state in: it starts on disk and moves there afterwards, see README.md.
}

provider "aws" {
  region = var.region

  default_tags {
    tags = {
      Project     = local.name
      Environment = "bootstrap"
      ManagedBy   = "terraform"
      CostCenter  = var.cost_center
    }
  }
}
