"""What a scan's answer means, and what of it keeps an image out."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest

from cloud import accepted_findings, findings, images
from cloud.accepted_findings import Accepted
from cloud.errors import CloudError
from cloud.findings import Finding, Scan
from cloud.terraform import ROOT

TODAY = date(2026, 11, 29)
UNFIXED = Finding("CRITICAL", "CVE-1", "zlib", "1:1.2.13")


class Ecr:
    """Answers a scan page by page."""

    class exceptions:
        class ScanNotFoundException(Exception):
            pass

    def __init__(self, counts: dict[str, int], **pages: list[list[dict[str, Any]]]) -> None:
        ((kind, content),) = pages.items()
        self._pages = [{"findingSeverityCounts": counts, kind: page} for page in content]

    def describe_image_scan_findings(self, nextToken: str = "0", **_: Any) -> dict[str, Any]:
        number = int(nextToken)
        more = {"nextToken": str(number + 1)} if number + 1 < len(self._pages) else {}
        return {"imageScanStatus": {"status": "ACTIVE"}, "imageScanFindings": self._pages[number], **more}


def basic(name: str, severity: str) -> dict[str, Any]:
    attributes = [{"key": "package_version", "value": "1:1.2.13"}, {"key": "package_name", "value": "zlib"}]
    return {"name": name, "severity": severity, "attributes": attributes}


def enhanced(fix: str = "NO", status: str = "ACTIVE", **fixed: str) -> dict[str, Any]:
    packages = [{"name": name, "version": "1", "fixedInVersion": version} for name, version in fixed.items()]
    details = {"vulnerabilityId": "CVE-1", "vulnerablePackages": packages}
    return {
        "severity": "CRITICAL",
        "status": status,
        "fixAvailable": fix,
        "title": "CVE-1 - zlib",
        "packageVulnerabilityDetails": details,
    }


def test_every_page_of_a_basic_scan_is_read() -> None:
    ecr = Ecr(
        {"CRITICAL": 2, "LOW": 1},
        findings=[[basic("CVE-1", "CRITICAL"), basic("CVE-3", "LOW")], [basic("CVE-2", "CRITICAL")]],
    )
    found = findings.scan(ecr, "r", "d")
    assert str(found) == "2 critical, 1 low"
    assert found.findings == [
        UNFIXED,
        Finding("LOW", "CVE-3", "zlib", "1:1.2.13"),
        Finding("CRITICAL", "CVE-2", "zlib", "1:1.2.13"),
    ]


def test_an_enhanced_scan_tells_of_fixes() -> None:
    ecr = Ecr(
        {"CRITICAL": 2},
        enhancedFindings=[
            [enhanced("PARTIAL", zlib="2", perl="NotAvailable")],
            [enhanced("YES", tar="NotAvailable"), enhanced(status="CLOSED", gzip="2")],
        ],
    )
    assert findings.scan(ecr, "r", "d").findings == [
        Finding("CRITICAL", "CVE-1", "zlib", "1", "2"),
        Finding("CRITICAL", "CVE-1", "perl", "1"),
        Finding("CRITICAL", "CVE-1", "tar", "1", "a newer version"),
    ]


def test_what_a_scan_counts_and_does_not_name_is_no_result() -> None:
    ecr = Ecr({"CRITICAL": 2, "HIGH": 9}, findings=[[basic("CVE-1", "CRITICAL")]])
    with pytest.raises(CloudError, match="counts 2 CRITICAL and names 1"):
        findings.scan(ecr, "r", "d")


def accepted(**other: Any) -> Accepted:
    given = {"id": "CVE-1", "package": "zlib", "images": frozenset({"trainer"}), "expires": TODAY}
    return Accepted(**{**given, "reason": "Only minizip.", "place": "list:2", **other})


@pytest.mark.parametrize(
    ("finding", "entries", "says"),
    [
        (UNFIXED, [accepted()], []),
        (UNFIXED, [], ["CRITICAL CVE-1 in zlib 1:1.2.13: not accepted"]),
        (UNFIXED, [accepted(images=frozenset({"serving"}))], ["CRITICAL CVE-1 in zlib 1:1.2.13: not accepted"]),
        (UNFIXED, [accepted(package="zlib1g")], ["CRITICAL CVE-1 in zlib 1:1.2.13: not accepted"]),
        (UNFIXED, [accepted(id="CVE-2")], ["CRITICAL CVE-1 in zlib 1:1.2.13: not accepted"]),
        (
            UNFIXED,
            [accepted(expires=date(2026, 11, 28))],
            ["CRITICAL CVE-1 in zlib 1:1.2.13: was accepted until 2026-11-28 (list:2): Only minizip."],
        ),
        (
            Finding("CRITICAL", "CVE-1", "zlib", "1:1.2.13", "1:1.3"),
            [accepted()],
            ["CRITICAL CVE-1 in zlib 1:1.2.13: fixed in 1:1.3"],
        ),
        (Finding("HIGH", "CVE-1", "zlib", "1:1.2.13", "1:1.3"), [], []),
    ],
)
def test_what_keeps_an_image_out(finding: Finding, entries: list[Accepted], says: list[str]) -> None:
    assert findings.refusals("trainer", Scan({}, [finding, finding]), entries, TODAY) == says


def test_what_is_accepted_in_vain_is_known() -> None:
    entries = [accepted(), accepted(id="CVE-2"), accepted(images=frozenset({"serving"}))]
    assert findings.unused({"trainer": Scan({}, [UNFIXED]), "serving": Scan({}, [])}, entries) == entries[1:]


def test_this_projects_own_list_can_be_read() -> None:
    accepted_findings.read(ROOT, images.IMAGES)


ENTRY = "id: CVE-1, package: zlib, reason: Debian has no fix."


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "yaml:1: expected a list under the one key `findings`"),
        ("accepted: []", "yaml:1: expected a list under the one key `findings`"),
        ("findings: []\nmore: []", "yaml:1: expected a list under the one key `findings`"),
        ("findings: [", "not valid YAML"),
        ("findings:\n- CVE-1", "yaml:2: expected the keys id, package, images, reason and expires"),
        (f"findings:\n- {{{ENTRY}}}", "yaml:2: expires: Field required"),
        (f"findings:\n- {{{ENTRY}, expires: soon}}", "yaml:2: expires: Input should be a valid date"),
        (f"findings:\n- {{{ENTRY}, expires: 2026-02-30}}", "yaml:2: .*day is out of range"),
        (f"findings:\n- {{{ENTRY}, expires: 2026-12-31, place: x}}", "yaml:2: place: Extra inputs"),
        (f"findings:\n- {{{ENTRY}, expires: 2026-12-31, until: x}}", "yaml:2: until: Extra inputs"),
        (f"findings:\n- {{{ENTRY}, expires: 2026-12-31, expires: 2027-12-31}}", "yaml:2: a key is there twice"),
        (f"findings:\n- {{{ENTRY}, expires: 2026-12-31, images: []}}", "yaml:2: images: List should have at least 1"),
        (f"findings:\n- {{{ENTRY}, expires: 2026-12-31, images: [web]}}", "yaml:2: images: no web: choose of deployer"),
        ("findings:\n- {id: CVE-1, package: zlib, reason: ' ', expires: 2026-12-31}", "yaml:2: reason: String should"),
        (
            f"findings:\n- {{{ENTRY}, expires: 2026-12-31}}\n- {{{ENTRY}, expires: 2026-12-31, images: [serving]}}",
            "yaml:3: CVE-1 in zlib is accepted already, see containers/accepted-findings.yaml:2",
        ),
    ],
)
def test_a_list_that_is_wrong_says_where(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / accepted_findings.FILE
    path.parent.mkdir()
    path.write_text(text, encoding="utf-8")
    with pytest.raises(CloudError, match=says):
        accepted_findings.read(tmp_path, images.IMAGES)


def test_a_list_that_is_missing_says_how_an_empty_one_looks(tmp_path: Path) -> None:
    with pytest.raises(CloudError, match=r"accepted-findings.yaml: cannot be read .*`findings: \[\]`"):
        accepted_findings.read(tmp_path, images.IMAGES)


def test_an_entry_is_for_all_images_unless_it_names_some(tmp_path: Path) -> None:
    path = tmp_path / accepted_findings.FILE
    path.parent.mkdir()
    other = ENTRY.replace("CVE-1", "CVE-2")
    entries = [f"- {{{ENTRY}, expires: 2026-12-31}}", f"- {{{other}, expires: 2026-12-31, images: [mlflow]}}"]
    path.write_text("\n".join(["findings:", *entries]), encoding="utf-8")
    everywhere, only = accepted_findings.read(tmp_path, images.IMAGES)
    assert {image for image in images.IMAGES if everywhere.covers(image, "CVE-1", "zlib")} == set(images.IMAGES)
    assert {image for image in images.IMAGES if only.covers(image, "CVE-2", "zlib")} == {"mlflow"}
