locals {
  # The current objects that go, or go to cheaper storage. What is not named here stays: accepted data (raw/), models
  # and MLflow's artifacts, the few files of each monitored window (monitoring/), and in the landing bucket labels and
  # files that no run has accepted or refused yet. 0 days is never.
  lifecycle_rules = {
    landing = [
      { id = "quarantine", prefix = "quarantine/", tiering_days = 0, expiration_days = var.landing_expiration_days },
    ]
    data = [
      { id = "capture", prefix = "capture/", tiering_days = 0, expiration_days = var.data_lifecycle.capture_expiration_days },
      { id = "raw", prefix = "raw/", tiering_days = var.data_lifecycle.raw_tiering_days, expiration_days = 0 },
      {
        id              = "runs"
        prefix          = "runs/"
        tiering_days    = var.data_lifecycle.runs_tiering_days
        expiration_days = var.data_lifecycle.runs_expiration_days
      },
    ]
    artifacts = []
    dags      = []
    logs = [
      { id = "access-logs", prefix = "", tiering_days = 0, expiration_days = var.access_log_retention_days },
    ]
  }
}

resource "aws_s3_bucket_lifecycle_configuration" "this" {
  for_each = local.buckets

  bucket = aws_s3_bucket.this[each.key].id

  rule {
    id     = "housekeeping"
    status = "Enabled"

    filter {
      prefix = ""
    }

    # Parts of an upload that broke off cost like objects and show up nowhere.
    abort_incomplete_multipart_upload {
      days_after_initiation = 7
    }

    noncurrent_version_expiration {
      noncurrent_days           = var.noncurrent_version_days
      newer_noncurrent_versions = each.value.minimum_versions
    }

    # A delete marker with no version left behind it only slows listings down.
    expiration {
      expired_object_delete_marker = true
    }
  }

  dynamic "rule" {
    for_each = {
      for rule in local.lifecycle_rules[each.key] : rule.id => rule if rule.tiering_days + rule.expiration_days > 0
    }

    content {
      id     = rule.key
      status = "Enabled"

      filter {
        prefix = rule.value.prefix
      }

      dynamic "transition" {
        for_each = rule.value.tiering_days == 0 ? [] : [rule.value.tiering_days]

        content {
          days          = transition.value
          storage_class = "INTELLIGENT_TIERING"
        }
      }

      dynamic "expiration" {
        for_each = rule.value.expiration_days == 0 ? [] : [rule.value.expiration_days]

        content {
          days = expiration.value
        }
      }
    }
  }

  # Rules on versions mean something only once there are versions.
  depends_on = [aws_s3_bucket_versioning.this]
}
