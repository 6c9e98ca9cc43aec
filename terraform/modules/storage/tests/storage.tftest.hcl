mock_provider "aws" {
  mock_data "aws_caller_identity" {
    defaults = { account_id = "123456789012" }
  }

  mock_data "aws_partition" {
    defaults = { partition = "aws" }
  }

  mock_data "aws_region" {
    defaults = { name = "eu-central-1" }
  }

  mock_data "aws_iam_policy_document" {
    defaults = { json = "{}" }
  }

  mock_resource "aws_kms_key" {
    defaults = {
      arn    = "arn:aws:kms:eu-central-1:123456789012:key/11111111-2222-3333-4444-555555555555"
      key_id = "11111111-2222-3333-4444-555555555555"
    }
  }

  mock_resource "aws_sqs_queue" {
    defaults = { arn = "arn:aws:sqs:eu-central-1:123456789012:mock" }
  }
}

variables {
  name          = "ml-platform-test"
  bucket_suffix = "123456789012"
}

run "defaults" {
  command = apply

  assert {
    condition = { for purpose, bucket in aws_s3_bucket.this : purpose => bucket.bucket } == {
      landing   = "ml-platform-test-landing-123456789012"
      data      = "ml-platform-test-data-123456789012"
      artifacts = "ml-platform-test-artifacts-123456789012"
      dags      = "ml-platform-test-dags-123456789012"
      logs      = "ml-platform-test-logs-123456789012"
    }
    error_message = "There are five buckets, named by prefix, purpose and suffix."
  }

  assert {
    condition = { for purpose, bucket in aws_s3_bucket.this : purpose => bucket.force_destroy } == {
      landing = false, data = false, artifacts = false, logs = false, dags = true
    }
    error_message = "By default no bucket whose content cannot be made again is emptied by destroy."
  }

  assert {
    condition     = aws_kms_key.this.enable_key_rotation && aws_kms_key.this.deletion_window_in_days == 30
    error_message = "The key rotates and can be saved for 30 days."
  }

  assert {
    condition     = aws_kms_alias.this.name == "alias/ml-platform-test" && aws_kms_alias.this.target_key_id == aws_kms_key.this.key_id
    error_message = "The key's alias is the environment's name."
  }

  assert {
    condition = length(aws_s3_bucket_versioning.this) == 5 && alltrue([
      for versioning in aws_s3_bucket_versioning.this : versioning.versioning_configuration[0].status == "Enabled"
    ])
    error_message = "Every bucket keeps versions."
  }

  assert {
    condition = alltrue([
      for purpose in ["landing", "data", "artifacts", "dags"] :
      one(aws_s3_bucket_server_side_encryption_configuration.this[purpose].rule).bucket_key_enabled &&
      one(one(aws_s3_bucket_server_side_encryption_configuration.this[purpose].rule).apply_server_side_encryption_by_default).sse_algorithm == "aws:kms" &&
      one(one(aws_s3_bucket_server_side_encryption_configuration.this[purpose].rule).apply_server_side_encryption_by_default).kms_master_key_id == aws_kms_key.this.arn
    ])
    error_message = "Buckets are encrypted with the environment's key, through a bucket key."
  }

  assert {
    condition     = one(one(aws_s3_bucket_server_side_encryption_configuration.this["logs"].rule).apply_server_side_encryption_by_default).sse_algorithm == "AES256"
    error_message = "Logs can only be delivered to a bucket with SSE-S3."
  }

  assert {
    condition = length(aws_s3_bucket_public_access_block.this) == 5 && alltrue([
      for block in aws_s3_bucket_public_access_block.this :
      block.block_public_acls && block.block_public_policy && block.ignore_public_acls && block.restrict_public_buckets
    ])
    error_message = "No bucket can be made public."
  }

  assert {
    condition = length(aws_s3_bucket_ownership_controls.this) == 5 && alltrue([
      for controls in aws_s3_bucket_ownership_controls.this : controls.rule[0].object_ownership == "BucketOwnerEnforced"
    ])
    error_message = "No bucket knows ACLs."
  }

  assert {
    condition     = length(aws_s3_bucket_policy.this) == 5
    error_message = "Every bucket has a policy."
  }

  assert {
    condition = { for purpose, logging in aws_s3_bucket_logging.this : purpose => logging.target_prefix } == {
      landing = "s3/landing/", data = "s3/data/", artifacts = "s3/artifacts/", dags = "s3/dags/"
    }
    error_message = "Every bucket but the logs bucket logs its accesses, under its own prefix."
  }

  assert {
    condition     = alltrue([for logging in aws_s3_bucket_logging.this : logging.target_bucket == aws_s3_bucket.this["logs"].id])
    error_message = "Access logs go to the logs bucket."
  }

  assert {
    condition = alltrue([
      for configuration in aws_s3_bucket_lifecycle_configuration.this :
      configuration.rule[0].abort_incomplete_multipart_upload[0].days_after_initiation == 7 &&
      configuration.rule[0].noncurrent_version_expiration[0].noncurrent_days == 90 &&
      configuration.rule[0].expiration[0].expired_object_delete_marker && configuration.rule[0].status == "Enabled"
    ])
    error_message = "Broken uploads, old versions and lone delete markers are cleared in every bucket."
  }

  assert {
    condition = { for purpose, configuration in aws_s3_bucket_lifecycle_configuration.this : purpose => join(" ", configuration.rule[*].id) } == {
      landing   = "housekeeping quarantine"
      data      = "housekeeping capture raw runs"
      artifacts = "housekeeping"
      dags      = "housekeeping"
      logs      = "housekeeping access-logs"
    }
    error_message = "Only refused files, captured requests, data and logs have rules of their own."
  }

  assert {
    condition = (
      aws_s3_bucket_lifecycle_configuration.this["landing"].rule[1].filter[0].prefix == "quarantine/" &&
      aws_s3_bucket_lifecycle_configuration.this["landing"].rule[1].expiration[0].days == 90
    )
    error_message = "Refused files expire; files that are still on their way in do not."
  }

  assert {
    condition = (
      aws_s3_bucket_lifecycle_configuration.this["data"].rule[3].filter[0].prefix == "runs/" &&
      one(aws_s3_bucket_lifecycle_configuration.this["data"].rule[3].transition).storage_class == "INTELLIGENT_TIERING" &&
      length(aws_s3_bucket_lifecycle_configuration.this["data"].rule[3].expiration) == 0
    )
    error_message = "Runs move to cheaper storage and stay."
  }

  assert {
    condition     = length(aws_s3_bucket_lifecycle_configuration.this["data"].rule[2].expiration) == 0
    error_message = "Accepted data never expires."
  }

  assert {
    condition     = aws_s3_bucket_lifecycle_configuration.this["logs"].rule[1].expiration[0].days == 90
    error_message = "Access logs expire."
  }

  assert {
    condition     = aws_s3_bucket_lifecycle_configuration.this["dags"].rule[0].noncurrent_version_expiration[0].newer_noncurrent_versions == 5
    error_message = "Versions that Airflow may have pinned stay."
  }

  assert {
    condition = (
      aws_sqs_queue.landing.name == "ml-platform-test-landing" && aws_sqs_queue.landing.kms_master_key_id == aws_kms_key.this.arn &&
      aws_sqs_queue.landing_dead_letter.kms_master_key_id == aws_kms_key.this.arn
    )
    error_message = "Both queues are encrypted with the environment's key."
  }

  assert {
    condition = (
      jsondecode(aws_sqs_queue_redrive_policy.landing.redrive_policy).maxReceiveCount == 5 &&
      jsondecode(aws_sqs_queue_redrive_policy.landing.redrive_policy).deadLetterTargetArn == aws_sqs_queue.landing_dead_letter.arn
    )
    error_message = "What cannot be handled goes to the dead-letter queue."
  }

  assert {
    condition     = aws_sqs_queue.landing_dead_letter.message_retention_seconds == 1209600 && aws_sqs_queue.landing.message_retention_seconds == 345600
    error_message = "The dead-letter queue keeps messages longer."
  }

  assert {
    condition = (
      jsondecode(aws_sqs_queue_redrive_allow_policy.landing_dead_letter.redrive_allow_policy).redrivePermission == "byQueue" &&
      jsondecode(aws_sqs_queue_redrive_allow_policy.landing_dead_letter.redrive_allow_policy).sourceQueueArns == [aws_sqs_queue.landing.arn]
    )
    error_message = "Only the landing queue may use the dead-letter queue."
  }

  assert {
    condition = (
      aws_s3_bucket_notification.landing.bucket == aws_s3_bucket.this["landing"].id && length(aws_s3_bucket_notification.landing.queue) == 1 &&
      aws_s3_bucket_notification.landing.queue[0].filter_suffix == ".parquet" &&
      aws_s3_bucket_notification.landing.queue[0].queue_arn == aws_sqs_queue.landing.arn
    )
    error_message = "Parquet files that land are announced on the queue."
  }

  assert {
    condition = output.buckets.dags == {
      name = "ml-platform-test-dags-123456789012"
      arn  = "arn:aws:s3:::ml-platform-test-dags-123456789012"
    } && length(output.buckets) == 5
    error_message = "The buckets' names and ARNs are outputs."
  }

  assert {
    condition = (
      output.landing_queue_arn == "arn:aws:sqs:eu-central-1:123456789012:ml-platform-test-landing" &&
      output.landing_dead_letter_queue_arn == "arn:aws:sqs:eu-central-1:123456789012:ml-platform-test-landing-dead-letter" &&
      output.landing_dead_letter_queue_name == "ml-platform-test-landing-dead-letter" && output.landing_queue_url == aws_sqs_queue.landing.url
    )
    error_message = "The queues are outputs."
  }

  assert {
    condition     = output.kms_key_arn == aws_kms_key.this.arn && output.kms_key_id == aws_kms_key.this.key_id
    error_message = "The key is an output."
  }

  assert {
    condition     = !contains(data.aws_iam_policy_document.key.statement[*].sid, "Administrators")
    error_message = "There is no statement without anyone in it."
  }
}

run "names_and_arns_are_known_before_anything_is_made" {
  command = plan

  assert {
    condition     = output.buckets.data.arn == "arn:aws:s3:::ml-platform-test-data-123456789012"
    error_message = "Policies elsewhere can be checked in the plan."
  }
}

run "without_deletion_protection" {
  command = plan

  variables {
    deletion_protection = false
  }

  assert {
    condition     = alltrue([for bucket in aws_s3_bucket.this : bucket.force_destroy])
    error_message = "Destroy empties every bucket."
  }

  assert {
    condition     = aws_kms_key.this.deletion_window_in_days == 7
    error_message = "The key goes as soon as AWS allows."
  }
}

run "other_retentions" {
  command = plan

  variables {
    access_log_retention_days = 30
    landing_expiration_days   = 14
    noncurrent_version_days   = 7
    data_lifecycle = {
      capture_expiration_days = 7
      raw_tiering_days        = 0
      runs_expiration_days    = 20
      runs_tiering_days       = 0
    }
  }

  assert {
    condition     = aws_s3_bucket_lifecycle_configuration.this["logs"].rule[1].expiration[0].days == 30
    error_message = "Access logs expire when asked."
  }

  assert {
    condition     = aws_s3_bucket_lifecycle_configuration.this["landing"].rule[1].expiration[0].days == 14
    error_message = "Refused files expire when asked."
  }

  assert {
    condition     = alltrue([for configuration in aws_s3_bucket_lifecycle_configuration.this : configuration.rule[0].noncurrent_version_expiration[0].noncurrent_days == 7])
    error_message = "Versions expire when asked."
  }

  assert {
    condition     = aws_s3_bucket_lifecycle_configuration.this["data"].rule[*].id == tolist(["housekeeping", "capture", "runs"])
    error_message = "A rule that would do nothing is left out."
  }

  assert {
    condition = (
      aws_s3_bucket_lifecycle_configuration.this["data"].rule[1].expiration[0].days == 7 &&
      aws_s3_bucket_lifecycle_configuration.this["data"].rule[2].expiration[0].days == 20 &&
      length(aws_s3_bucket_lifecycle_configuration.this["data"].rule[2].transition) == 0
    )
    error_message = "Captured requests and runs expire when asked, and nothing moves."
  }
}

run "another_queue" {
  command = plan

  variables {
    landing_event_prefixes = ["flights/", "iris/"]
    landing_event_suffixes = [".parquet", ".csv.gz"]
    landing_queue          = { max_receive_count = 3, retention_days = 1, visibility_timeout_seconds = 60 }
  }

  assert {
    condition = [
      for queue in aws_s3_bucket_notification.landing.queue : "${queue.filter_prefix}*${queue.filter_suffix}"
    ] == ["flights/*.parquet", "flights/*.csv.gz", "iris/*.parquet", "iris/*.csv.gz"]
    error_message = "Each suffix of each folder has its notification, and nothing else has: no labels, no refused files."
  }

  assert {
    condition     = length(distinct(aws_s3_bucket_notification.landing.queue[*].id)) == 4
    error_message = "Each notification has its own id."
  }

  assert {
    condition     = aws_sqs_queue.landing.message_retention_seconds == 86400 && aws_sqs_queue.landing.visibility_timeout_seconds == 60
    error_message = "The queue's times are a choice."
  }
}

run "administrators_of_the_key" {
  command = plan

  variables {
    kms_admin_arns = ["arn:aws:iam::123456789012:role/security"]
  }

  assert {
    condition     = one([for statement in data.aws_iam_policy_document.key.statement : statement.sid if statement.sid == "Administrators"]) == "Administrators"
    error_message = "Administrators have their statement."
  }

  assert {
    condition = !anytrue(flatten([
      for statement in data.aws_iam_policy_document.key.statement : [
        for action in statement.actions : can(regex("^kms:(\\*|Encrypt|Decrypt|ReEncrypt|GenerateData|CreateGrant)", action))
      ] if statement.sid == "Administrators"
    ]))
    error_message = "Administrators cannot use the key."
  }
}
