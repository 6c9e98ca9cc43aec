# What CI touches in every run, even one that changes nothing: states and images. See ci_policies.tf.
data "aws_iam_policy_document" "ci_release" {
  statement {
    sid       = "ListStates"
    actions   = ["s3:ListBucket"]
    resources = [aws_s3_bucket.state.arn]

    condition {
      test     = "StringLike"
      variable = "s3:prefix"
      values   = ["environments/*"]
    }
  }

  # Not `bootstrap/`: CI cannot rewrite what limits it.
  statement {
    sid       = "ReadAndWriteStates"
    actions   = ["s3:GetObject", "s3:PutObject"]
    resources = ["${aws_s3_bucket.state.arn}/environments/*"]
  }

  statement {
    sid       = "ReleaseLocks"
    actions   = ["s3:DeleteObject"]
    resources = ["${aws_s3_bucket.state.arn}/environments/*.tflock"]
  }

  statement {
    sid       = "UseStateAndImageKey"
    actions   = ["kms:Decrypt", "kms:DescribeKey", "kms:GenerateDataKey"]
    resources = [aws_kms_key.this.arn]
  }

  statement {
    sid       = "SignInToImages"
    actions   = ["ecr:GetAuthorizationToken"]
    resources = ["*"]
  }

  # Tags are immutable and nothing here deletes: an image that was pushed stays what it is.
  statement {
    sid = "PushAndScanImages"
    actions = [
      "ecr:BatchCheckLayerAvailability",
      "ecr:BatchGetImage",
      "ecr:CompleteLayerUpload",
      "ecr:DescribeImages",
      "ecr:DescribeImageScanFindings",
      "ecr:DescribeRepositories",
      "ecr:GetDownloadUrlForLayer",
      "ecr:InitiateLayerUpload",
      "ecr:ListTagsForResource",
      "ecr:PutImage",
      "ecr:UploadLayerPart",
    ]
    resources = ["arn:${local.partition}:ecr:${local.here}:repository/${local.name}/*"]
  }
}
