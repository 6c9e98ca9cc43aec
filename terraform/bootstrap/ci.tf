# Who may deploy: workflow runs of one repository, from named branches or through named GitHub environments. GitHub
# signs a token that says which; AWS trades it for an hour of the role below. No access key exists.
resource "aws_iam_openid_connect_provider" "github" {
  count = var.create_github_oidc_provider ? 1 : 0

  url            = "https://token.actions.githubusercontent.com"
  client_id_list = ["sts.amazonaws.com"]
}

locals {
  github_issuer = "token.actions.githubusercontent.com"
  github_provider_arn = var.create_github_oidc_provider ? one(aws_iam_openid_connect_provider.github[*].arn) : (
    "arn:${local.partition}:iam::${local.account_id}:oidc-provider/${local.github_issuer}"
  )
  github_subjects = concat(
    [for branch in var.github_branches : "repo:${var.github_repository}:ref:refs/heads/${branch}"],
    [for environment in var.github_environments : "repo:${var.github_repository}:environment:${environment}"],
  )
}

data "aws_iam_policy_document" "ci_trust" {
  statement {
    sid     = "GitHubActions"
    actions = ["sts:AssumeRoleWithWebIdentity"]

    principals {
      type        = "Federated"
      identifiers = [local.github_provider_arn]
    }

    condition {
      test     = "StringEquals"
      variable = "${local.github_issuer}:aud"
      values   = ["sts.amazonaws.com"]
    }

    # Equals, not Like: a pull request's token has another subject and gets nothing.
    condition {
      test     = "StringEquals"
      variable = "${local.github_issuer}:sub"
      values   = local.github_subjects
    }
  }
}

resource "aws_iam_role" "ci" {
  name               = "${module.names.global_name}-ci"
  description        = "Deploys the environments of ${local.name} from GitHub Actions"
  assume_role_policy = data.aws_iam_policy_document.ci_trust.json
  # The apply that makes an Airflow environment takes most of an hour.
  max_session_duration = 7200
}

# A managed policy holds 6,144 characters, so the rights come in parts; ci_policies.tf says what each is for.
resource "aws_iam_policy" "ci" {
  for_each = local.ci_policies

  name        = "${module.names.global_name}-ci-${each.key}"
  description = each.value.description
  policy      = each.value.document
}

resource "aws_iam_role_policy_attachment" "ci" {
  for_each = local.ci_policies

  role       = aws_iam_role.ci.name
  policy_arn = aws_iam_policy.ci[each.key].arn
}
