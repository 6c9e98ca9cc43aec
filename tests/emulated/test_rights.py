"""The role that deploys from CI has every right that applying and destroying an environment takes.

No emulator evaluates IAM. But the journal has every call that was made, and the policies are there to be read: each
call's action must be allowed by one of them. Resources and conditions are not compared; tests/policies judges those.
"""

from __future__ import annotations

import fnmatch

import pytest

from local.emulators.workspace import DEPLOYMENT
from tests.emulated.support import Stories, Story

pytestmark = pytest.mark.timeout(1500)

# Names in IAM, where they differ from the API's. https://docs.aws.amazon.com/service-authorization/latest/reference/
SERVICES = {"monitoring": "cloudwatch", "tagging": "tag"}
ACTIONS = {
    "s3:HeadBucket": "ListBucket",
    "s3:ListObjects": "ListBucket",
    "s3:ListObjectsV2": "ListBucket",
    "s3:ListObjectVersions": "ListBucketVersions",
    "s3:HeadObject": "GetObject",
    "s3:DeleteObjects": "DeleteObject",
    "s3:GetBucketLifecycleConfiguration": "GetLifecycleConfiguration",
    "s3:PutBucketLifecycleConfiguration": "PutLifecycleConfiguration",
    "s3:DeleteBucketLifecycle": "PutLifecycleConfiguration",
    "s3:GetBucketEncryption": "GetEncryptionConfiguration",
    "s3:PutBucketEncryption": "PutEncryptionConfiguration",
    "s3:DeleteBucketEncryption": "PutEncryptionConfiguration",
    "s3:GetPublicAccessBlock": "GetBucketPublicAccessBlock",
    "s3:PutPublicAccessBlock": "PutBucketPublicAccessBlock",
    "s3:DeletePublicAccessBlock": "PutBucketPublicAccessBlock",
    "s3:GetBucketNotificationConfiguration": "GetBucketNotification",
    "s3:PutBucketNotificationConfiguration": "PutBucketNotification",
    "s3:GetBucketAccelerateConfiguration": "GetAccelerateConfiguration",
    "s3:GetBucketReplication": "GetReplicationConfiguration",
    "s3:GetObjectLockConfiguration": "GetBucketObjectLockConfiguration",
    "s3:GetBucketCors": "GetBucketCORS",
    "s3:DeleteBucketTagging": "PutBucketTagging",
    "s3:DeleteBucketOwnershipControls": "PutBucketOwnershipControls",
    "budgets:CreateBudget": "ModifyBudget",
    "budgets:CreateNotification": "ModifyBudget",
    "budgets:DeleteBudget": "ModifyBudget",
    "budgets:DescribeBudget": "ViewBudget",
    "budgets:DescribeNotificationsForBudget": "ViewBudget",
    "budgets:DescribeSubscribersForNotification": "ViewBudget",
}
FOR_EVERYBODY = {"sts:GetCallerIdentity"}


def allowed(stories: Stories) -> list[str]:
    """Return the patterns of the actions that any policy of the role allows."""
    iam = stories.aws.client("iam")
    patterns: list[str] = []
    for policy in iam.list_attached_role_policies(RoleName=f"ml-platform-{stories.aws.region}-ci")["AttachedPolicies"]:
        version = iam.get_policy(PolicyArn=policy["PolicyArn"])["Policy"]["DefaultVersionId"]
        document = iam.get_policy_version(PolicyArn=policy["PolicyArn"], VersionId=version)["PolicyVersion"]["Document"]
        for statement in document["Statement"]:
            if statement["Effect"] == "Allow":
                actions = statement["Action"]
                patterns += [actions] if isinstance(actions, str) else actions
    return [pattern.lower() for pattern in patterns]


def needed(service: str, action: str) -> str:
    """Return the right that a call takes, as IAM writes it."""
    return f"{SERVICES.get(service, service)}:{ACTIONS.get(f'{service}:{action}', action)}"


@pytest.mark.parametrize("name", ["dev"])
def test_the_ci_role_may_do_all_that_a_deployment_does(destroyed: Story, stories: Stories) -> None:
    calls = {
        needed(call["service"], call["action"])
        for call in stories.aws.calls()
        if call["application"] == DEPLOYMENT and call["status"] < 500
    }
    assert len(calls) > 200
    patterns = allowed(stories)
    refused = {
        call
        for call in calls - FOR_EVERYBODY
        if not any(fnmatch.fnmatchcase(call.lower(), pattern) for pattern in patterns)
    }
    assert not refused, f"the CI role lacks {', '.join(sorted(refused))}: see terraform/bootstrap/ci_policies.tf"
