"""The gate: may a candidate replace the champion? One pure function.

`decide` asks one guard after the other (`mlplatform.promotion.guards`) and keeps what each found.
"""

from __future__ import annotations

from typing import Literal

from mlplatform.config.base import TaskKind
from mlplatform.config.policy import Policy
from mlplatform.documents.decisions import Decision, GuardResult
from mlplatform.documents.evaluation import EvaluateResult
from mlplatform.documents.results import ValidateResult
from mlplatform.promotion import guards


def decide(
    evaluation: EvaluateResult, validation: ValidateResult | None, policy: Policy, task: TaskKind, metric: str
) -> Decision:
    """Judge a candidate by the policy, and against the champion if there is one.

    All guards must pass. A champion without a valid metric blocks promotion, because then nobody knows what would be
    lost; look at the evaluation, or move the alias by hand.

    Args:
        evaluation: both models' scores on the same held-out rows.
        validation: of the data that the candidate was trained on; None where there is no result of it.
        policy: the effective one: of the dataset, the environment and the run.
        task: kind of the dataset's task.
        metric: the dataset's.
    """
    case = guards.Case(evaluation, validation, policy, task, metric)
    results = [result for guard in guards.GUARDS for result in guard(case)]
    champion = evaluation.champion
    objections = [result.sentence for result in results if not result.passed]
    manual = (policy.approval if champion else policy.cold_start.approval) == "manual"
    outcome: Literal["promote", "reject", "needs-approval"] = "needs-approval" if manual else "promote"
    if objections:
        outcome = "reject"
    return Decision(
        outcome=outcome,
        reasons=objections or _grounds(results, first=champion is None, manual=manual),
        guards=results,
        metric=metric,
        candidate_version=evaluation.candidate.model_version,
        candidate_value=case.ours,
        champion_version=champion.model_version if champion else None,
        champion_value=case.theirs,
        improvement=case.improvement,
        policy=policy,
        evaluation_digest=evaluation.evaluation_digest,
    )


def _grounds(results: list[GuardResult], *, first: bool, manual: bool) -> list[str]:
    """Return what speaks for a candidate that passed: how good it is, what else was looked at, and who decides now."""
    telling = [result.sentence for result in results if result.name in ("quality", "comparison")]
    others = [result.name for result in results if result.name not in ("quality", "comparison")]
    return [
        *telling,
        *(["there is no champion yet"] if first else []),
        f"also passed: {', '.join(others)}",
        *([f"a person must approve {'a first model' if first else 'it'}, as the policy says"] if manual else []),
    ]
