"""Who may approve what, whether it still holds, and that the first answer is the only one."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest

from mlplatform import storage
from mlplatform.config.environment import Approver, Settings
from mlplatform.documents.decisions import Answer, Question, RecordedAnswer
from mlplatform.errors import NonRetryableError
from mlplatform.promotion import approval, audit
from mlplatform.promotion.approval import Standing

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
JANE = Approver(id="7", name="jane")
QUESTION = Question(
    dataset="parcels",
    registered_model="parcels",
    version="2",
    run_id="run-2",
    model_digest="model",
    evaluation_digest="evaluation",
    champion_version="1",
    prefix="s3://data/runs/parcels/key",
)
TAGS = {"evaluation_digest": "evaluation", "model_digest": "model"}
IN_MLFLOW = {
    "approval": "approved",
    "approved_by": "jane",
    "approval_reason": "looks good",
    "approval_evaluation_digest": "evaluation",
}


def answer(outcome: Any = "approved", by: str = "john", source: Any = "airflow") -> Answer:
    return Answer(outcome=outcome, by=by, reason="because", at=NOW, source=source)


@pytest.fixture
def registry(s3: Any, fake_registry: Any) -> Any:
    """Version 1 is champion, version 2 the challenger that was evaluated."""
    for number in ("1", "2"):
        fake_registry.versions.append(
            SimpleNamespace(name="parcels", version=number, run_id=f"run-{number}", source="s3://a", tags=dict(TAGS))
        )
    fake_registry.aliases.update(champion="1", challenger="2")
    return fake_registry


def tags(registry: Any, version: str = "2") -> dict[str, str]:
    found: dict[str, str] = next(one for one in registry.versions if one.version == version).tags
    return found


def record(settings: Settings, given: Answer, question: Question = QUESTION) -> RecordedAnswer:
    return approval.record(settings, question, given, "train__parcels/a")


# --- Does it still hold? ------------------------------------------------------------------------


def test_nothing_speaks_against_the_version_that_was_evaluated() -> None:
    assert approval.objections(QUESTION, Standing("2", "1", TAGS)) == []
    assert approval.objections(QUESTION, Standing("2", "2", TAGS)) == [], "deployed by an earlier attempt"
    first = QUESTION.model_copy(update={"champion_version": None})
    assert approval.objections(first, Standing("2", None, TAGS)) == []


@pytest.mark.parametrize(
    ("now", "why"),
    [
        (Standing("3", "1", TAGS), "the challenger of parcels is now version 3, not version 2"),
        (Standing(None, "1", TAGS), "the challenger of parcels is now none"),
        (
            Standing("2", "3", TAGS),
            "the champion of parcels is now version 3, but the evaluation compared with version 1",
        ),
        (Standing("2", None, TAGS), "the champion of parcels is now none, but"),
        (Standing("2", "1", {**TAGS, "evaluation_digest": "new"}), "was evaluated again since the question was put"),
        (Standing("2", "1", {"model_digest": "model"}), "was evaluated again"),
        (Standing("2", "1", {**TAGS, "model_digest": "other"}), "the files of version 2 of parcels are not those"),
    ],
)
def test_what_changed_since_the_question_is_named(now: Standing, why: str) -> None:
    (found,) = approval.objections(QUESTION, now)
    assert why in found


@pytest.mark.parametrize("challenger", ["2", None])
def test_a_candidate_whose_place_nobody_took_is_still_asked_about(challenger: str | None) -> None:
    assert approval.superseded(QUESTION, Standing(challenger, "1", TAGS), NOW) is None


def test_a_candidate_is_superseded_by_the_next_that_passes_the_gate() -> None:
    assert approval.superseded(QUESTION, Standing("3", "1", TAGS), NOW) == Answer(
        outcome="superseded",
        by="version 3",
        reason="version 3 passed the gate since, and takes its place",
        at=NOW,
        source="newer-candidate",
    )


# --- Answers in MLflow --------------------------------------------------------------------------


@pytest.mark.parametrize("approvers", [[], [JANE]])
def test_tags_with_the_right_digest_approve(approvers: list[Approver]) -> None:
    found = approval.answer_in_tags(QUESTION, IN_MLFLOW, approvers, NOW)
    assert found == Answer(outcome="approved", by="jane", reason="looks good", at=NOW, source="mlflow")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        (
            {"approval_evaluation_digest": "old"},
            "approval_evaluation_digest is old, but the evaluation's is evaluation",
        ),
        ({"approval_evaluation_digest": None}, "approval_evaluation_digest is missing"),
        ({"approved_by": None}, "approved_by is missing"),
        ({"approved_by": "mallory"}, "approved_by=mallory: not one of jane"),
        ({"approval": "Approved"}, "approval=Approved: only approved and rejected are answers"),
    ],
)
def test_tags_that_do_not_count_are_told(changes: dict[str, str | None], why: str) -> None:
    changed = {key: value for key, value in {**IN_MLFLOW, **changes}.items() if value is not None}
    found = approval.answer_in_tags(QUESTION, changed, [JANE], NOW)
    assert isinstance(found, str)
    assert why in found


@pytest.mark.parametrize(
    ("written", "counts"),
    [
        ({"approval": "rejected"}, True),
        ({"approval": "rejected", "approval_evaluation_digest": "evaluation"}, True),
        ({"approval": "rejected", "approval_evaluation_digest": "of an earlier one"}, False),
        ({}, False),
    ],
)
def test_a_rejection_needs_no_signature_but_may_be_of_another_evaluation(written: Any, counts: bool) -> None:
    found = approval.answer_in_tags(QUESTION, written, [JANE], NOW)
    assert (found is not None) is counts
    assert not isinstance(found, str)


def test_a_wrong_tag_is_answered_in_mlflow_once(settings: Settings, registry: Any) -> None:
    tags(registry).update(IN_MLFLOW, approval_evaluation_digest="old")
    assert approval.look_in_tags(settings, QUESTION) is None
    assert "is old, but the evaluation's is evaluation" in tags(registry)[approval.INVALID_ANSWER_TAG]
    tags(registry)["approval_evaluation_digest"] = "evaluation"
    found = approval.look_in_tags(settings, QUESTION)
    assert found is not None
    assert (found.outcome, found.by) == ("approved", "jane")


# --- Recording ----------------------------------------------------------------------------------


def test_an_approval_is_on_the_version_and_in_the_audit_log(settings: Settings, registry: Any) -> None:
    held = record(settings, answer())
    assert held.approved_model().model_dump() == {
        "dataset": "parcels",
        "registered_model": "parcels",
        "version": "2",
        "run_id": "run-2",
        "model_digest": "model",
        "evaluation_digest": "evaluation",
        "prefix": "s3://data/runs/parcels/key",
        "approved_by": "john",
        "reason": "because",
    }
    written = {key: value for key, value in tags(registry).items() if key not in TAGS}
    assert written == {
        "approval": "approved",
        "approved_by": "john",
        "approved_at": "2026-03-01T12:00:00+00:00",
        "approval_reason": "because",
        "approval_evaluation_digest": "evaluation",
    }
    (line,) = audit.entries(settings, "parcels")
    assert (line.kind, line.by, line.model_version, line.dag_run) == ("approved", "john", "2", "train__parcels/a")
    assert line.details["champion_version"] == "1"


def test_a_second_run_changes_nothing(settings: Settings, registry: Any) -> None:
    first = record(settings, answer())
    before = dict(tags(registry))
    again = record(settings, answer().model_copy(update={"at": datetime.now(UTC)}))
    assert again == first
    assert tags(registry) == before
    assert len(audit.entries(settings, "parcels")) == 1


def test_a_run_that_was_interrupted_before_the_tags_is_completed(
    settings: Settings, registry: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as broken:
        broken.setattr(approval.registry, "tag_version", lambda *args: (_ for _ in ()).throw(ConnectionError("away")))
        with pytest.raises(ConnectionError):
            record(settings, answer())
    assert audit.entries(settings, "parcels") == []
    record(settings, answer())
    assert tags(registry)["approved_by"] == "john"
    assert len(audit.entries(settings, "parcels")) == 1


@pytest.mark.parametrize(
    "change",
    [
        lambda registry: registry.aliases.update(champion="7"),
        lambda registry: registry.aliases.pop("challenger"),
        lambda registry: tags(registry).update(evaluation_digest="another"),
    ],
    ids=["champion-changed", "no-longer-challenger", "evaluated-again"],
)
def test_an_approval_that_is_out_of_date_leaves_no_trace(
    settings: Settings, registry: Any, change: Callable[[Any], None]
) -> None:
    change(registry)
    before = dict(tags(registry))
    with pytest.raises(NonRetryableError, match=r"the approval of version 2 does not hold: .* evaluate and ask again"):
        record(settings, answer())
    assert tags(registry) == before
    assert audit.entries(settings, "parcels") == []
    assert approval.recorded(QUESTION) is None


def test_an_approval_does_not_hold_any_more_when_it_is_recorded_again_too_late(
    settings: Settings, registry: Any
) -> None:
    record(settings, answer())
    registry.aliases["champion"] = "7"
    with pytest.raises(NonRetryableError, match="the champion of parcels is now version 7"):
        record(settings, answer())


@pytest.mark.parametrize("in_mlflow", [{}, IN_MLFLOW], ids=["in-airflow", "in-mlflow"])
def test_an_approval_that_comes_after_a_newer_candidate_is_superseded(
    settings: Settings, registry: Any, in_mlflow: dict[str, str]
) -> None:
    tags(registry).update(in_mlflow)
    registry.aliases["challenger"] = "3"
    before = dict(tags(registry))
    held = record(settings, answer()).answer
    assert (held.outcome, held.by, held.source) == ("superseded", "version 3", "newer-candidate")
    assert tags(registry) == before
    assert approval.recorded(QUESTION) is None
    registry.aliases["challenger"] = "4"  # the task is tried again, and there is one that is newer still
    assert record(settings, answer()).answer.outcome == "superseded"
    (line,) = audit.entries(settings, "parcels")
    assert (line.kind, line.by, line.model_version) == ("superseded", "version 3", "2")


def test_a_recorded_approval_is_superseded_too_and_stays_in_the_audit_log(settings: Settings, registry: Any) -> None:
    record(settings, answer())
    registry.aliases["challenger"] = "3"
    for _ in range(2):
        assert record(settings, answer()).answer.outcome == "superseded"
    assert sorted(line.kind for line in audit.entries(settings, "parcels")) == ["approved", "superseded"]


def test_that_the_wait_found_a_newer_candidate_is_audited(settings: Settings, registry: Any) -> None:
    registry.aliases["challenger"] = "3"
    given = answer("superseded", "version 3", "newer-candidate")
    for _ in range(2):
        assert record(settings, given).answer == given
    assert [line.kind for line in audit.entries(settings, "parcels")] == ["superseded"]
    assert "approval" not in tags(registry)


@pytest.mark.parametrize(("outcome", "source"), [("rejected", "airflow"), ("expired", "deadline")])
def test_what_is_no_approval_is_not_superseded(settings: Settings, registry: Any, outcome: str, source: str) -> None:
    registry.aliases["challenger"] = "3"
    assert record(settings, answer(outcome, "jane", source)).answer.outcome == outcome
    assert [line.kind for line in audit.entries(settings, "parcels")] == [outcome]


def test_a_rejection_is_recorded_even_if_the_champion_changed(settings: Settings, registry: Any) -> None:
    registry.aliases["champion"] = "7"
    assert record(settings, answer("rejected")).answer.outcome == "rejected"
    assert tags(registry)["approval"] == "rejected"
    assert audit.entries(settings, "parcels")[0].kind == "rejected"


def test_the_first_of_two_answers_holds_and_the_second_is_told(
    settings: Settings, registry: Any, caplog: pytest.LogCaptureFixture
) -> None:
    record(settings, answer("rejected", "jane"))
    held = record(settings, answer("approved", "john"))
    assert (held.answer.outcome, held.answer.by) == ("rejected", "jane")
    assert "approved by john (airflow) does not count: it was rejected by jane (airflow)" in caplog.text
    assert tags(registry)["approval"] == "rejected"
    assert [line.by for line in audit.entries(settings, "parcels")] == ["jane"]


def test_of_two_answers_at_the_same_moment_one_is_recorded(
    settings: Settings, registry: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody else's answer appears between looking for one and writing one's own."""
    create = storage.create_document

    def somebody_was_faster(uri: str, document: Any) -> str | None:
        if isinstance(document, RecordedAnswer) and document.answer.by == "john":
            assert create(uri, RecordedAnswer(question=QUESTION, answer=answer("rejected", "jane")))
        return create(uri, document)

    monkeypatch.setattr(storage, "create_document", somebody_was_faster)
    assert record(settings, answer("approved", "john")).answer.by == "jane"
    assert tags(registry)["approved_by"] == "jane"


def test_many_at_once_agree_on_one(settings: Settings, registry: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from threading import Lock

    # moto checks the condition and writes after that; S3 lets exactly one of them win.
    create, lock = storage.create_document, Lock()

    def one_at_a_time(uri: str, document: Any) -> str | None:
        with lock:
            return create(uri, document)

    monkeypatch.setattr(storage, "create_document", one_at_a_time)
    with ThreadPoolExecutor(6) as pool:
        answers = [answer("approved" if i % 2 else "rejected", f"person-{i}") for i in range(6)]
        held = {given.answer.by for given in pool.map(lambda given: record(settings, given), answers)}
    assert len(held) == 1
    assert [line.by for line in audit.entries(settings, "parcels")] == list(held)


@pytest.mark.parametrize(
    ("given", "in_mlflow", "by", "outcome"),
    [
        (("approved", "john", "airflow"), IN_MLFLOW, "jane", "approved"),
        (("rejected", "john", "airflow"), IN_MLFLOW, "john", "rejected"),
        (("approved", "john", "airflow"), {"approval": "rejected", "approved_by": "jane"}, "jane", "rejected"),
        (("approved", "policy", "policy"), {"approval": "rejected", "approved_by": "jane"}, "jane", "rejected"),
        (("approved", "policy", "policy"), IN_MLFLOW, "policy", "approved"),
        (("expired", "deadline", "deadline"), IN_MLFLOW, "jane", "approved"),
        (("approved", "john", "airflow"), {**IN_MLFLOW, "approval_evaluation_digest": "old"}, "john", "approved"),
    ],
)
def test_answers_in_airflow_and_in_mlflow(
    settings: Settings, registry: Any, given: Any, in_mlflow: dict[str, str], by: str, outcome: str
) -> None:
    tags(registry).update(in_mlflow)
    held = record(settings, answer(*given)).answer
    assert (held.by, held.outcome) == (by, outcome)
    assert (tags(registry)["approved_by"], tags(registry)["approval"]) == (by, outcome)


def test_where_mlflow_does_not_count_its_tags_are_not_read(settings: Settings, registry: Any) -> None:
    closed = settings.model_copy(update={"approval": settings.approval.model_copy(update={"from_mlflow": False})})
    tags(registry).update({**IN_MLFLOW, "approved_by": "mallory"})
    assert record(closed, answer("expired", "deadline", "deadline")).answer.outcome == "expired"


def test_a_deadline_that_passed_is_audited_and_the_question_can_be_put_again(settings: Settings, registry: Any) -> None:
    held = record(settings, answer("expired", "deadline", "deadline"))
    assert held.answer.outcome == "expired"
    assert "approval" not in tags(registry)
    assert [line.kind for line in audit.entries(settings, "parcels")] == ["expired"]
    assert record(settings, answer()).answer.outcome == "approved"


def test_another_evaluation_is_another_question(settings: Settings, registry: Any) -> None:
    record(settings, answer("rejected", "jane"))
    tags(registry)["evaluation_digest"] = "second"
    again = QUESTION.model_copy(update={"evaluation_digest": "second"})
    assert record(settings, answer("approved", "john"), again).answer.by == "john"


def test_a_version_that_is_not_there_is_refused(settings: Settings, registry: Any) -> None:
    gone = QUESTION.model_copy(update={"version": "9"})
    with pytest.raises(NonRetryableError, match="models:/parcels/9: no such version"):
        record(settings, answer(), gone)
