"""What the repository's scan finds in an image, and which of it keeps the image out.

A scan is of one of two kinds, as the registry is configured. ECR's basic one names package and version, and does not
say whether there is a fix. The enhanced one (Amazon Inspector) does. So of a basic scan every critical finding has to
be accepted by name; of an enhanced one only those that nobody can mend.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from cloud.accepted_findings import Accepted
from cloud.errors import CloudError

REFUSED = ("CRITICAL",)
"""Severities of findings that keep an image out."""
SCAN_MINUTES = 15
_NO_FIX = "NotAvailable"


@dataclass(frozen=True, order=True)
class Finding:
    """A weakness of a package; `fixed_in` is empty where the scan knows of no version without it."""

    severity: str
    id: str
    package: str
    version: str
    fixed_in: str = ""

    def __str__(self) -> str:
        return f"{self.severity} {self.id} in {self.package} {self.version}".rstrip()


@dataclass(frozen=True)
class Scan:
    """What a scan found: how many of each severity, and each."""

    counts: Mapping[str, int]
    findings: Sequence[Finding]

    def __str__(self) -> str:
        return ", ".join(f"{count} {severity.lower()}" for severity, count in sorted(self.counts.items())) or "nothing"


def scan(ecr: Any, repository: str, digest: str, poll_seconds: float = 5) -> Scan:
    """Wait for the repository's own scan of an image and return what it found.

    Raises:
        CloudError: the scan failed, has not ended in time, or counts what it does not name.
    """
    deadline = time.monotonic() + SCAN_MINUTES * 60
    wanted = {"repositoryName": repository, "imageId": {"imageDigest": digest}}
    while time.monotonic() < deadline:
        try:
            found = ecr.describe_image_scan_findings(**wanted)
        except ecr.exceptions.ScanNotFoundException:
            found = {"imageScanStatus": {"status": "PENDING"}}
        status = found["imageScanStatus"]["status"]
        if status in ("COMPLETE", "ACTIVE"):
            return _whole(ecr, wanted, found)
        if status in ("FAILED", "UNSUPPORTED_IMAGE"):
            raise CloudError(f"{repository}: the scan of {digest} ended with {status}: {found['imageScanStatus']}")
        time.sleep(poll_seconds)
    raise CloudError(f"{repository}: no scan result after {SCAN_MINUTES} minutes: is scan on push on for it?")


def refusals(image: str, found: Scan, accepted: Sequence[Accepted], today: date) -> list[str]:
    """Return a line for each finding that keeps an image out: what, and why it is not let through."""
    refused = []
    for finding in sorted(set(found.findings)):
        if finding.severity not in REFUSED:
            continue
        entry = next((entry for entry in accepted if entry.covers(image, finding.id, finding.package)), None)
        if finding.fixed_in:
            refused.append(f"{finding}: fixed in {finding.fixed_in}")
        elif entry is None:
            refused.append(f"{finding}: not accepted")
        elif entry.expires < today:
            refused.append(f"{finding}: was accepted until {entry.expires} ({entry.place}): {entry.reason}")
    return refused


def unused(scans: Mapping[str, Scan], accepted: Sequence[Accepted]) -> list[Accepted]:
    """Return what is accepted and was found in no image."""
    found = {(image, finding.id, finding.package) for image, scan in scans.items() for finding in scan.findings}
    return [entry for entry in accepted if not any(entry.covers(*one) for one in found)]


def _whole(ecr: Any, wanted: Mapping[str, Any], page: Mapping[str, Any]) -> Scan:
    """Read a scan's other pages too."""
    counts: Mapping[str, int] = page.get("imageScanFindings", {}).get("findingSeverityCounts", {})
    findings: list[Finding] = []
    while True:
        content = page.get("imageScanFindings", {})
        findings += [_basic(finding) for finding in content.get("findings", [])]
        for finding in content.get("enhancedFindings", []):
            findings += _enhanced(finding)
        if not page.get("nextToken"):
            break
        page = ecr.describe_image_scan_findings(**wanted, nextToken=page["nextToken"])
    for severity in REFUSED:
        named = sum(finding.severity == severity for finding in findings)
        if named < counts.get(severity, 0):
            raise CloudError(
                f"{wanted['repositoryName']}: the scan of {wanted['imageId']['imageDigest']} counts "
                f"{counts[severity]} {severity} and names {named}: what is not named cannot be judged; try again"
            )
    return Scan(dict(counts), findings)


def _basic(finding: Mapping[str, Any]) -> Finding:
    given = {attribute["key"]: attribute.get("value", "") for attribute in finding.get("attributes", [])}
    return Finding(
        finding["severity"], finding["name"], given.get("package_name", ""), given.get("package_version", "")
    )


def _enhanced(finding: Mapping[str, Any]) -> list[Finding]:
    """Return one for each package that a finding is about."""
    if finding.get("status") == "CLOSED":
        return []
    details = finding.get("packageVulnerabilityDetails", {})
    name = details.get("vulnerabilityId") or finding.get("title", "")
    packages = details.get("vulnerablePackages") or [{}]
    # That there is a fix is said of the finding, in which version of each package.
    some = "a newer version" if finding.get("fixAvailable") == "YES" else ""
    found = []
    for package in packages:
        fixed = package.get("fixedInVersion", "")
        fixed = some if fixed in ("", _NO_FIX) else fixed
        found.append(Finding(finding["severity"], name, package.get("name", ""), package.get("version", ""), fixed))
    return found
