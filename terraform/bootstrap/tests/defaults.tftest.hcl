mock_provider "aws" {
  mock_data "aws_caller_identity" {
    defaults = { account_id = "111122223333" }
  }
  mock_data "aws_partition" {
    defaults = { partition = "aws" }
  }
  mock_data "aws_iam_policy_document" {
    defaults = { json = "{}" }
  }
}

variables {
  region            = "us-east-1"
  github_repository = "example/platform"
}

run "defaults" {
  command = plan

  # --- The state bucket

  assert {
    condition     = aws_s3_bucket.state.bucket == "ml-platform-terraform-state-111122223333-us-east-1"
    error_message = "The name of the state bucket must be unique by the account's number and the region."
  }

  assert {
    condition     = aws_s3_bucket_versioning.state.versioning_configuration[0].status == "Enabled"
    error_message = "States must be versioned."
  }

  assert {
    condition = one(one(aws_s3_bucket_server_side_encryption_configuration.state.rule
    ).apply_server_side_encryption_by_default).sse_algorithm == "aws:kms"
    error_message = "States must be encrypted with the key made here."
  }

  assert {
    condition = alltrue([
      aws_s3_bucket_public_access_block.state.block_public_acls,
      aws_s3_bucket_public_access_block.state.block_public_policy,
      aws_s3_bucket_public_access_block.state.ignore_public_acls,
      aws_s3_bucket_public_access_block.state.restrict_public_buckets,
    ])
    error_message = "All four switches against public access must be on."
  }

  assert {
    condition     = aws_s3_bucket_lifecycle_configuration.state.rule[0].noncurrent_version_expiration[0].noncurrent_days == 365
    error_message = "Older versions must expire after state_version_days."
  }

  assert {
    condition     = length(aws_s3_bucket_logging.state) == 0
    error_message = "Without access_log_bucket there must be no access logs."
  }

  assert {
    condition     = aws_kms_key.this.enable_key_rotation
    error_message = "The key must rotate."
  }

  # --- Images

  assert {
    condition     = sort(keys(aws_ecr_repository.this)) == tolist(["deployer", "mlflow", "serving", "trainer", "trainer-cuda"])
    error_message = "There must be one repository for each image."
  }

  assert {
    condition = alltrue([for repository in aws_ecr_repository.this : (
      repository.image_tag_mutability == "IMMUTABLE" &&
      repository.image_scanning_configuration[0].scan_on_push &&
      repository.encryption_configuration[0].encryption_type == "KMS"
    )])
    error_message = "Every repository must have immutable tags, scan on push and encrypt with KMS."
  }

  assert {
    condition     = aws_ecr_repository.this["trainer"].name == "ml-platform/trainer"
    error_message = "Repositories must be called <name>/<image>."
  }

  assert {
    condition = [for rule in jsondecode(aws_ecr_lifecycle_policy.this["trainer"].policy).rules : (
      rule.selection.countNumber
    )] == [7, 50]
    error_message = "Images without a tag must go after 7 days, and the newest 50 must stay."
  }

  # --- GitHub

  assert {
    condition     = length(aws_iam_openid_connect_provider.github) == 1
    error_message = "The identity provider must be made by default."
  }

  assert {
    condition = local.github_subjects == [
      "repo:example/platform:ref:refs/heads/main",
      "repo:example/platform:environment:dev",
      "repo:example/platform:environment:staging",
      "repo:example/platform:environment:prod",
    ]
    error_message = "Only the named branches and environments may take the role."
  }

  assert {
    condition     = toset(keys(aws_iam_role_policy_attachment.ci)) == toset(keys(local.ci_policies))
    error_message = "Every policy must be attached to the CI role."
  }

  assert {
    condition     = aws_iam_role.ci.name == "ml-platform-us-east-1-ci" && endswith(local.ci_role_arn, ":role/ml-platform-us-east-1-ci")
    error_message = "The policies must name the CI role as it is called."
  }
}

run "access_logs" {
  command = plan

  variables {
    access_log_bucket = "audit-logs-111122223333"
  }

  assert {
    condition     = aws_s3_bucket_logging.state[0].target_bucket == "audit-logs-111122223333"
    error_message = "Access logs must go to access_log_bucket."
  }
}

run "github_provider_made_elsewhere" {
  command = plan

  variables {
    create_github_oidc_provider = false
  }

  assert {
    condition     = length(aws_iam_openid_connect_provider.github) == 0
    error_message = "No second identity provider may be made."
  }

  assert {
    condition = local.github_provider_arn == (
      "arn:aws:iam::111122223333:oidc-provider/token.actions.githubusercontent.com"
    )
    error_message = "The account's own provider must be trusted."
  }
}
