"""The platform in an AWS account: what people do to it besides `terraform apply`."""
