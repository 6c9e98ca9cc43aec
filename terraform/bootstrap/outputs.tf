output "ci_role_arn" {
  description = "Role for the workflow's `role-to-assume`."
  value       = aws_iam_role.ci.arn
}

output "kms_key_arn" {
  description = "Key of the state and the images, for the backend's `kms_key_id`."
  value       = aws_kms_key.this.arn
}

output "permissions_boundary_arn" {
  description = "Ceiling that every role of an environment has to carry."
  value       = aws_iam_policy.boundary.arn
}

output "region" {
  description = "Region of the state bucket."
  value       = var.region
}

output "repository_urls" {
  description = "Address of each image repository, by image."
  value       = { for image, repository in aws_ecr_repository.this : image => repository.repository_url }
}

output "state_bucket" {
  description = "Bucket of the states, for the backend's `bucket`."
  value       = aws_s3_bucket.state.bucket
}
