from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from moto import mock_aws

from cloud import bundle, document_versions, wheels
from cloud.errors import CloudError
from cloud.push_dags import Plan, Report, plan, push
from local.emulators.airflow_api import AirflowApi
from tests.airflow_api import client_of

ROOT = Path(__file__).parents[3]
BUCKET = "ml-platform-dev-dags"
PLATFORM: dict[str, Any] = {
    "environment": "dev",
    "git_sha": "0" * 40,
    "aws": {"region": "eu-central-1", "account_id": "123456789012"},
    "buckets": {"landing": "l", "data": "d", "artifacts": "a"},
    "kubernetes": {"kubeconfig": "kubeconfig", "context": "ml-platform-dev"},
    "images": {"trainer": "t", "trainer_cuda": "c", "deployer": "d", "serving": "s"},
    "mlflow": {"tracking_uri": "http://mlflow.ml-platform-dev.internal"},
    "serving": {"execution_role_arn": "arn:aws:iam::123456789012:role/serving", "endpoint_name": "dev-{dataset}"},
    "notifications": {"topic_arn": "arn:aws:sns:eu-central-1:123456789012:notifications"},
}
LIBRARY = "dags/mlplatform/__init__.py"
DAG = "dags/train_model.py"


class Bucket:
    """The DAG bucket as Terraform leaves it, and every call that is made on it."""

    def __init__(self, root: Path) -> None:
        self.client = boto3.client("s3", region_name="us-east-1")
        self.client.create_bucket(Bucket=BUCKET)
        self.client.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
        self.put("dags/platform.json", json.dumps(PLATFORM).encode())
        self.put("dags/kubeconfig", b"apiVersion: v1")
        for key, source in bundle.TERRAFORM_COPIES.items():
            self.put(key, (root / source).read_bytes())
        self.put_wheels(wheels.digest(root))
        self.terraform = set(self.listed())
        self.calls: list[tuple[str, str]] = []
        self.fail_on: str | None = None
        self.airflow = AirflowApi()
        self.client.meta.events.register("provide-client-params.s3.*", self._record)

    def _record(self, params: dict[str, Any], model: Any, **_: Any) -> None:
        if model.name in ("PutObject", "DeleteObject"):
            if params["Key"] == self.fail_on:
                raise ClientError({"Error": {"Code": "AccessDenied", "Message": "not you"}}, model.name)
            self.calls.append((model.name, params["Key"]))

    def put(self, key: str, content: bytes) -> None:
        self.client.put_object(Bucket=BUCKET, Key=key, Body=content)

    def put_wheels(self, requirements: str) -> None:
        self.client.put_object(Bucket=BUCKET, Key=wheels.KEY, Body=b"wheels", Metadata={"requirements": requirements})

    def listed(self) -> list[str]:
        return [entry["Key"] for entry in self.client.list_objects_v2(Bucket=BUCKET).get("Contents", [])]

    def written(self) -> list[str]:
        """What was written and deleted since the last question, in order."""
        done = [key for _, key in self.calls]
        self.calls.clear()
        return done


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's own DAGs and configuration, without Airflow's environment."""
    folder = tmp_path_factory.mktemp("project")
    for name in ("dags", "config"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", ".*.swp"))
    path = document_versions.path_of(folder, "dev")
    path.parent.mkdir(parents=True)
    document_versions.write(path, PLATFORM["images"], "c0ffee" * 6, document_versions.of_library(folder / "dags"))
    return folder


@pytest.fixture
def root(project: Path, tmp_path: Path) -> Path:
    return shutil.copytree(project, tmp_path / "project")


@pytest.fixture
def bucket(root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bucket]:
    for name, value in {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    with mock_aws():
        yield Bucket(root)


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the check that starts a process, where a test is about something else."""
    monkeypatch.setattr(bundle, "check_settings", lambda contents, platform: [])
    monkeypatch.setattr(bundle, "pools", lambda contents, platform: [])
    monkeypatch.setattr(document_versions, "of_library", lambda folder: {})
    monkeypatch.setattr(document_versions, "mismatches", lambda *_: [])


def pushed(bucket: Bucket, root: Path, **options: Any) -> Report:
    return push(BUCKET, client=bucket.client, api=client_of(bucket.airflow), root=root, **options)


# --- What is in the bundle --------------------------------------------------------------------


def test_the_bundle_is_what_airflow_needs_and_nothing_else(root: Path) -> None:
    (root / "dags/.hidden").write_text("x")
    (root / "dags/.git").mkdir()
    (root / "dags/.git/config").write_text("x")
    (root / "dags/mlplatform/__pycache__").mkdir()
    (root / "dags/mlplatform/__pycache__/config.cpython-312.pyc").write_bytes(b"x")
    (root / "dags/tests").mkdir()
    (root / "dags/tests/test_it.py").write_text("x = 1")
    (root / "dags/platform.json").write_text("{}")
    (root / "dags/kubeconfig").write_text("{}")
    (root / "config/kubernetes/base").mkdir(parents=True, exist_ok=True)
    (root / "config/kubernetes/base/kustomization.yaml").write_text("x: 1")
    keys = set(bundle.contents(root))
    expected = {f"dags/{path.name}" for path in (ROOT / "dags").glob("*.py")}
    expected |= {f"dags/{path.relative_to(ROOT / 'dags')}" for path in (ROOT / "dags/mlplatform").rglob("*.py")}
    expected |= {f"dags/config/{path.name}" for path in (ROOT / "config").glob("*.yaml")}
    expected |= {f"dags/config/models/{path.name}" for path in (ROOT / "config/models").glob("*.yaml")}
    expected |= {f"dags/config/families/{path.name}" for path in (ROOT / "config/families").glob("*.yaml")}
    assert keys == expected | {"dags/.airflowignore"}
    assert keys.isdisjoint(bundle.TERRAFORM_KEYS)


def test_a_folder_without_dags_is_not_pushed_over_an_environment(bucket: Bucket, root: Path) -> None:
    for path in (root / "dags").glob("*.py"):
        path.unlink()
    with pytest.raises(CloudError, match="no DAG file there"):
        pushed(bucket, root)
    assert bucket.written() == []


# --- The plan ---------------------------------------------------------------------------------


def test_the_plan_compares_by_content_and_leaves_terraforms_keys_alone() -> None:
    local = {DAG: "1", LIBRARY: "2", "dags/config/base.yaml": "3"}
    remote: dict[str, str | None] = {
        **dict.fromkeys(bundle.TERRAFORM_KEYS, None),
        DAG: "1",
        LIBRARY: "other",
        "dags/": None,
        "dags/mlplatform/": None,
        "dags/mlplatform/old.py": None,
        "dags/old_dag.py": "9",
        "requirements/old.txt": None,
    }
    made = plan(local, remote)
    assert made == Plan(
        added=("dags/config/base.yaml",),
        changed=(LIBRARY,),
        deleted=("dags/old_dag.py", "dags/mlplatform/old.py"),
        unchanged=(DAG,),
    )


def test_an_object_whose_content_s3_does_not_know_is_written_again() -> None:
    assert plan({DAG: "1"}, {DAG: None}).changed == (DAG,)


def test_what_dags_use_is_there_before_the_dags() -> None:
    keys = ["dags/a.py", "dags/config/z.yaml", "dags/.airflowignore", "dags/mlplatform/z.py", "dags/z.py"]
    made = plan(dict.fromkeys(keys, "1"), {"dags/z.py": "2"})
    assert made.uploads == (
        "dags/.airflowignore",
        "dags/config/z.yaml",
        "dags/mlplatform/z.py",
        "dags/a.py",
        "dags/z.py",
    )


# --- A push -----------------------------------------------------------------------------------


def test_the_first_push_brings_everything_and_the_second_nothing(bucket: Bucket, root: Path) -> None:
    contents = bundle.contents(root)
    first = pushed(bucket, root, environment="dev")
    assert set(bucket.listed()) == bucket.terraform | set(contents)
    assert set(first.plan.added) == set(contents)
    assert (first.plan.changed, first.plan.deleted, first.plan.unchanged) == ((), (), ())
    order = bucket.written()
    assert order[0] == "dags/.airflowignore"
    dags = [key for key in contents if bundle.is_dag_file(key)]
    assert sorted(order[-len(dags) :]) == dags
    for key, content in contents.items():
        assert bucket.client.get_object(Bucket=BUCKET, Key=key)["Body"].read() == content
    assert f"s3://{BUCKET}/dags/: {len(contents)} added, 0 changed, 0 deleted, 0 unchanged (dev)" in first.lines()
    assert any("not imported" in line for line in first.lines())

    second = pushed(bucket, root, environment="dev")
    assert bucket.written() == []
    assert second.nothing_to_do
    assert set(second.plan.unchanged) == set(contents)
    assert second.lines() == [f"s3://{BUCKET}/dags/: up to date, {len(contents)} files (dev)"]


@pytest.mark.usefixtures("unchecked")
def test_a_push_brings_what_changed_and_deletes_what_is_gone(bucket: Bucket, root: Path) -> None:
    pushed(bucket, root)
    bucket.written()
    (root / "dags/new_dag.py").write_text("x = 1\n")
    (root / LIBRARY).write_text('"""Changed."""\n')
    (root / "dags/mlplatform/orchestration/dag_runs.py").unlink()
    (root / "config/staging.yaml").unlink()
    bucket.put("dags/forgotten_dag.py", b"x = 1")
    bucket.written()

    dry = pushed(bucket, root, dry_run=True)
    assert bucket.written() == []
    assert dry.lines()[-1] == "Dry run: nothing was written."

    report = pushed(bucket, root)
    assert report.plan == dry.plan
    assert report.plan.added == ("dags/new_dag.py",)
    assert report.plan.changed == (LIBRARY,)
    gone = ("dags/forgotten_dag.py", "dags/config/staging.yaml", "dags/mlplatform/orchestration/dag_runs.py")
    assert report.plan.deleted == gone
    done = bucket.written()
    assert done[:3] == [LIBRARY, "dags/new_dag.py", "dags/forgotten_dag.py"]
    assert sorted(done[3:]) == sorted(gone[1:])
    assert report.lines()[:5] == [
        "  + dags/new_dag.py",
        f"  ~ {LIBRARY}",
        "  - dags/config/staging.yaml",
        "  - dags/forgotten_dag.py",
        "  - dags/mlplatform/orchestration/dag_runs.py",
    ]
    assert set(bucket.listed()) == bucket.terraform | set(bundle.contents(root))


@pytest.mark.usefixtures("unchecked")
def test_what_somebody_else_wrote_over_is_put_right(bucket: Bucket, root: Path) -> None:
    pushed(bucket, root)
    bucket.put(DAG, b"broken by hand")
    assert pushed(bucket, root).plan.changed == (DAG,)
    assert pushed(bucket, root).nothing_to_do


@pytest.mark.usefixtures("unchecked")
def test_an_interrupted_push_starts_no_later_phase_and_the_next_one_completes_it(bucket: Bucket, root: Path) -> None:
    bucket.put("dags/old_dag.py", b"x = 1")
    bucket.written()
    bucket.fail_on = LIBRARY
    with pytest.raises(CloudError, match=r"no access \(PutObject: not you\).*push again"):
        pushed(bucket, root)
    assert not [key for key in bucket.written() if bundle.is_dag_file(key)]
    assert "dags/old_dag.py" in bucket.listed()

    bucket.fail_on = None
    report = pushed(bucket, root)
    assert LIBRARY in report.plan.added
    assert report.plan.deleted == ("dags/old_dag.py",)
    assert set(bucket.listed()) == bucket.terraform | set(bundle.contents(root))
    assert pushed(bucket, root).nothing_to_do


# --- Checks: a bundle that is not fit changes nothing -----------------------------------------


def refused(bucket: Bucket, root: Path, message: str, **options: Any) -> None:
    bucket.written()
    with pytest.raises(CloudError, match=message):
        pushed(bucket, root, **options)
    assert bucket.written() == []


def test_python_that_does_not_compile(bucket: Bucket, root: Path) -> None:
    (root / "dags/bad.py").write_text("x = 1\ndef f(:\n")
    refused(bucket, root, rf"(?s)dags/bad\.py:2: invalid syntax.*Nothing was pushed to s3://{BUCKET}")


def test_every_mistake_in_the_configuration_is_told_at_once(bucket: Bucket, root: Path) -> None:
    prod = root / "config/prod.yaml"
    prod.write_text(prod.read_text().replace("instance_count: 2", "instance_count: 0"))
    model = root / "config/models/flights.yaml"
    model.write_text(model.read_text().replace("metric: roc_auc", "metric: luck"))
    refused(bucket, root, r"(?s)config/prod\.yaml.*serving\.instance_count: .*config/models/flights\.yaml: metric: ")


def test_what_a_dataset_says_of_another_environment_is_checked(bucket: Bucket, root: Path) -> None:
    model = root / "config/models/flights.yaml"
    own = "\nenvironments: {prod: {settings: {monitoring: {label_hours: 1}}}}\n"
    model.write_text(model.read_text() + own)
    refused(
        bucket,
        root,
        r"config/prod\.yaml.*under settings of config/models/flights\.yaml: .*label_hours: 1 is less than window_hours",
    )


def test_facts_that_the_schema_refuses(bucket: Bucket, root: Path) -> None:
    bucket.put("dags/platform.json", json.dumps({**PLATFORM, "images": {"trainer": "t", "trainer_cuda": "c"}}).encode())
    refused(bucket, root, r"platform\.json: images\.deployer: Field required")


def test_a_library_that_does_not_import(bucket: Bucket, root: Path) -> None:
    (root / "dags/mlplatform/config/loading.py").write_text("import nowhere_to_be_found\n")
    refused(bucket, root, r"(?s)the settings could not be checked, nothing was pushed.*nowhere_to_be_found")


@pytest.mark.parametrize("source", sorted(bundle.TERRAFORM_COPIES.values()))
def test_files_the_environment_is_made_of_have_to_be_applied_first(bucket: Bucket, root: Path, source: str) -> None:
    (root / source).write_text("changed")
    refused(bucket, root, f"{source} differs from s3://{BUCKET}/.*run `make apply` first")


def test_the_wheels_of_other_requirements_have_to_be_applied_first(bucket: Bucket, root: Path) -> None:
    bucket.put_wheels("0" * 64)
    refused(bucket, root, f"{wheels.KEY} has the wheels of another dags/requirements.txt: run `make apply` first")
    bucket.put(wheels.KEY, b"by hand")
    refused(bucket, root, f"{wheels.KEY} has the wheels of another")
    bucket.client.delete_object(Bucket=BUCKET, Key=wheels.KEY)
    refused(bucket, root, f"{wheels.KEY}: no such object; run `make apply` first")


def test_an_environment_that_was_not_applied(bucket: Bucket, root: Path) -> None:
    for key in bucket.listed():
        bucket.client.delete_object(Bucket=BUCKET, Key=key)
    refused(bucket, root, r"dags/platform\.json: no such object.*run `make apply`")
    bucket.put("dags/platform.json", json.dumps(PLATFORM).encode())
    refused(bucket, root, r"requirements/requirements\.txt: no such object; run `make apply` first")


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"not json"])
def test_facts_that_are_no_facts(bucket: Bucket, root: Path, content: bytes) -> None:
    bucket.put("dags/platform.json", content)
    refused(bucket, root, r"platform\.json: not JSON that names its environment")


def test_the_bucket_of_another_environment(bucket: Bucket, root: Path) -> None:
    refused(bucket, root, "is of the environment 'dev', not 'prod': nothing was pushed", environment="prod")


def test_no_such_bucket(bucket: Bucket, root: Path) -> None:
    with pytest.raises(CloudError, match="s3://nowhere: no such bucket: run `make apply`"):
        push("nowhere", client=bucket.client, api=client_of(bucket.airflow), root=root)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("AccessDenied", "no access .*credentials of the right account.*kms:Decrypt"),
        ("ExpiredToken", "does not take the credentials .*sign in again"),
        ("SlowDown", "Push again: it goes on where this one stopped"),
    ],
)
def test_what_aws_says_is_explained(bucket: Bucket, root: Path, code: str, message: str) -> None:
    def refuse(**_: Any) -> None:
        raise ClientError({"Error": {"Code": code, "Message": "no"}}, "ListObjectsV2")

    bucket.client.meta.events.register("provide-client-params.s3.ListObjectsV2", refuse)
    refused(bucket, root, message)


def test_no_connection_is_explained(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = boto3.client(
        "s3",
        endpoint_url="http://127.0.0.1:9",
        region_name="us-east-1",
        aws_access_key_id="test",
        aws_secret_access_key="test",
        config=Config(retries={"total_max_attempts": 1}),
    )
    monkeypatch.setenv("AWS_PROFILE", "elsewhere")
    with pytest.raises(CloudError, match=r"Could not connect.*AWS_PROFILE=elsewhere.*push again"):
        push(BUCKET, client=client, api=client_of(AirflowApi()), root=root)


# --- Airflow's pools ----------------------------------------------------------------------------


def test_the_pools_of_the_dags_are_made_before_them(bucket: Bucket, root: Path) -> None:
    bucket.fail_on = DAG
    with pytest.raises(CloudError, match="push again"):
        pushed(bucket, root)
    assert {name: pool["slots"] for name, pool in bucket.airflow.pools.items()} == {
        "default_pool": 128,
        "deployment": 32,
        **{f"training__{dataset}": 2 for dataset in ("flights", "housing", "iris", "titanic")},
    }
    assert bucket.airflow.pools["training__flights"]["include_deferred"], "a pod runs while its task is deferred"


def test_pools_are_brought_up_to_date_although_the_bundle_is(bucket: Bucket, root: Path) -> None:
    pushed(bucket, root)
    bucket.airflow.pools["training__flights"]["slots"] = 1
    del bucket.airflow.pools["deployment"]
    bucket.airflow.pools["theirs"] = {"name": "theirs", "slots": 3, "description": "", "include_deferred": False}
    said = ["  + pool deployment: 32 slots", "  ~ pool training__flights: slots 1 becomes 2"]
    assert pushed(bucket, root, dry_run=True).lines()[:2] == said
    assert "deployment" not in bucket.airflow.pools
    assert pushed(bucket, root).lines()[:2] == said
    assert pushed(bucket, root).nothing_to_do
    assert bucket.airflow.pools["theirs"]["slots"] == 3, "others' pools are theirs"


def test_the_share_of_a_dataset_is_its_own(bucket: Bucket, root: Path) -> None:
    model = root / "config/models/flights.yaml"
    own = "\nenvironments: {dev: {settings: {training: {parallel_pods: 5}}}}\n"
    model.write_text(model.read_text() + own)
    (root / "config/models/iris.yaml").write_text(
        (root / "config/models/iris.yaml").read_text() + "\nenvironments: {dev: {enabled: false}}\n"
    )
    pushed(bucket, root)
    assert bucket.airflow.pools["training__flights"]["slots"] == 5
    assert "training__iris" not in bucket.airflow.pools


def test_nothing_is_pushed_without_pools(bucket: Bucket, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bucket.airflow, "answer", lambda *_: (403, {"detail": "Forbidden"}))
    with pytest.raises(CloudError, match=r"(?s)Airflow refused a pool: .*Forbidden.*nothing was pushed"):
        pushed(bucket, root)
    assert not bucket.written()


def test_an_environment_that_does_not_answer(bucket: Bucket, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def deny(*_: Any) -> None:
        raise ClientError({"Error": {"Code": "AccessDeniedException", "Message": "no"}}, "InvokeRestApi")

    monkeypatch.setattr(bucket.airflow, "answer", deny)
    with pytest.raises(CloudError, match=r"Airflow cannot be asked: .*InvokeRestApi.*`make smoke`"):
        pushed(bucket, root)
    assert not bucket.written()


def test_a_pool_that_somebody_else_makes_meanwhile(bucket: Bucket, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = bucket.airflow.answer

    def overtake(method: str, path: str, query: Any = None, body: Any = None) -> Any:
        if method == "POST":
            answer("POST", path, query, {**body, "slots": 1})
        return answer(method, path, query, body)

    monkeypatch.setattr(bucket.airflow, "answer", overtake)
    pushed(bucket, root)
    assert bucket.airflow.pools["training__flights"]["slots"] == 2


# --- Importing the DAG files ------------------------------------------------------------------


@pytest.fixture
def airflow(tmp_path: Path) -> Path:
    """An interpreter that says of every DAG file that it is broken, as far as the push can see."""
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho warming up\nprintf '%s' '[\"dags/x.py:\\nImportError: no\"]'\n")
    python.chmod(0o755)
    return python


def test_dags_that_airflow_cannot_import_are_not_pushed(bucket: Bucket, root: Path, airflow: Path) -> None:
    refused(bucket, root, r"(?s)dags/x\.py:\nImportError: no.*Nothing was pushed", airflow=airflow)


def test_airflow_is_not_started_when_nothing_changed(bucket: Bucket, root: Path, airflow: Path) -> None:
    pushed(bucket, root)
    assert pushed(bucket, root, airflow=airflow).nothing_to_do


def test_airflow_that_does_not_start_is_told_apart_from_a_broken_dag(bucket: Bucket, root: Path, airflow: Path) -> None:
    airflow.write_text("#!/bin/sh\necho 'no such module' >&2\nexit 3\n")
    refused(
        bucket, root, r"(?s)the DAG files could not be checked, nothing was pushed:\nno such module", airflow=airflow
    )


# --- Documents ----------------------------------------------------------------------------------


def recorded(root: Path, **kinds: list[int]) -> None:
    """Let the environment's images read and write other versions than the library does."""
    path = document_versions.path_of(root, "dev")
    content = json.loads(path.read_text())
    content["documents"] |= kinds
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("images", "says"),
    [
        (
            {"RunConfig": [2, 1]},
            r"the images of dev read RunConfig up to version 1 and this bundle writes version \d+: the images are "
            r"older than the bundle; run `make images ENV=dev` and `make apply ENV=dev` first",
        ),
        (
            {"RunConfig": [2, 99]},
            r"this bundle reads RunConfig up to version \d+ and the images of dev write version 99: the bundle is "
            r"older than the images; bring it up to c0ffeec0ffee, which they were built at, or have images of this "
            r"checkout: run `make images ENV=dev` and `make apply ENV=dev` first",
        ),
        ({"ExplainResult": [1, 1]}, "this bundle does not know ExplainResult and the images of dev write version 1"),
    ],
    ids=["older-images", "newer-images", "a-kind-that-only-they-know"],
)
def test_images_that_would_not_understand_the_bundle_are_told_before_anything_is_uploaded(
    bucket: Bucket, root: Path, images: dict[str, list[int]], says: str
) -> None:
    recorded(root, **images)
    with pytest.raises(CloudError, match=says):
        pushed(bucket, root)
    assert bucket.written() == []


def test_a_kind_that_only_the_bundle_knows_is_told_too(bucket: Bucket, root: Path) -> None:
    path = document_versions.path_of(root, "dev")
    content = json.loads(path.read_text())
    del content["documents"]["MonitorResult"]
    path.write_text(json.dumps(content))
    with pytest.raises(
        CloudError, match="the images of dev do not know MonitorResult and this bundle writes version 1"
    ):
        pushed(bucket, root)
    assert bucket.written() == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (Path.unlink, r"documents.json: no such file.*release 0.1.0 and older have none: run `make images ENV=dev`"),
        (lambda path: path.write_text("{"), r"not what `make images` writes"),
        (
            lambda path: path.write_text(json.dumps({**json.loads(path.read_text()), "images": ["trainer"]})),
            r"not what `make images` writes \(images: Input should be an object\): run `make images ENV=dev`",
        ),
        (
            lambda path: path.write_text(json.dumps({**json.loads(path.read_text()), "documents": {"RunConfig": [2]}})),
            r"not what `make images` writes \(documents.RunConfig: List should have at least 2 items.*\): run",
        ),
        (
            lambda path: path.write_text(path.read_text().replace('"trainer": "t"', '"trainer": "another"')),
            r"is not about the images that dev runs \(trainer\): `make apply ENV=dev`",
        ),
    ],
    ids=["nothing", "damaged", "no-images", "no-versions", "of-other-images"],
)
def test_images_of_which_nothing_is_known_stop_the_push(
    bucket: Bucket, root: Path, change: Callable[[Path], Any], says: str
) -> None:
    change(document_versions.path_of(root, "dev"))
    with pytest.raises(CloudError, match=says):
        pushed(bucket, root)
    assert bucket.written() == []
