locals {
  queue_names = {
    landing             = "${var.name}-landing"
    landing_dead_letter = "${var.name}-landing-dead-letter"
  }

  queue_arns = {
    for key, name in local.queue_names : key => "arn:${local.partition}:sqs:${local.region}:${local.account_id}:${name}"
  }
}

resource "aws_sqs_queue" "landing" {
  name                       = local.queue_names["landing"]
  kms_master_key_id          = aws_kms_key.this.arn
  message_retention_seconds  = var.landing_queue.retention_days * 24 * 3600
  policy                     = data.aws_iam_policy_document.queue["landing"].json
  receive_wait_time_seconds  = 20 # whoever waits for a file need not ask again and again
  visibility_timeout_seconds = var.landing_queue.visibility_timeout_seconds
}

resource "aws_sqs_queue" "landing_dead_letter" {
  name              = local.queue_names["landing_dead_letter"]
  kms_master_key_id = aws_kms_key.this.arn
  # A message keeps its age when it moves here, so this has to be longer than it may have waited before.
  message_retention_seconds = 14 * 24 * 3600
  policy                    = data.aws_iam_policy_document.queue["landing_dead_letter"].json
}

# The two queues name each other: apart from them, neither has to wait half a minute for the other.
resource "aws_sqs_queue_redrive_policy" "landing" {
  queue_url = aws_sqs_queue.landing.id

  redrive_policy = jsonencode({
    deadLetterTargetArn = aws_sqs_queue.landing_dead_letter.arn
    maxReceiveCount     = var.landing_queue.max_receive_count
  })
}

resource "aws_sqs_queue_redrive_allow_policy" "landing_dead_letter" {
  queue_url = aws_sqs_queue.landing_dead_letter.id

  redrive_allow_policy = jsonencode({
    redrivePermission = "byQueue"
    sourceQueueArns   = [aws_sqs_queue.landing.arn]
  })
}

data "aws_iam_policy_document" "queue" {
  for_each = local.queue_arns

  statement {
    sid       = "TlsOnly"
    effect    = "Deny"
    actions   = ["sqs:*"]
    resources = [each.value]

    principals {
      type        = "*"
      identifiers = ["*"]
    }

    condition {
      test     = "Bool"
      variable = "aws:SecureTransport"
      values   = ["false"]
    }
  }

  # Bucket names are the world's: the account says that it is still our bucket.
  dynamic "statement" {
    for_each = each.key == "landing" ? [local.bucket_arns["landing"]] : []

    content {
      sid       = "LandingBucket"
      actions   = ["sqs:SendMessage"]
      resources = [each.value]

      principals {
        type        = "Service"
        identifiers = ["s3.amazonaws.com"]
      }

      condition {
        test     = "ArnEquals"
        variable = "aws:SourceArn"
        values   = [statement.value]
      }

      condition {
        test     = "StringEquals"
        variable = "aws:SourceAccount"
        values   = [local.account_id]
      }
    }
  }
}

# One notification per folder and suffix. S3 cannot leave a prefix out: to leave out quarantine/ and labels/, the folders
# of data are named.
resource "aws_s3_bucket_notification" "landing" {
  bucket = aws_s3_bucket.this["landing"].id

  dynamic "queue" {
    for_each = setproduct(var.landing_event_prefixes, var.landing_event_suffixes)

    content {
      id            = join("-", compact(["landed", trimsuffix(queue.value[0], "/"), replace(trimprefix(queue.value[1], "."), ".", "-")]))
      queue_arn     = aws_sqs_queue.landing.arn
      events        = ["s3:ObjectCreated:*"]
      filter_prefix = queue.value[0]
      filter_suffix = queue.value[1]
    }
  }
}
