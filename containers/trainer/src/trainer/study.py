"""The study that the trials of a run share: an Optuna study in PostgreSQL, named as the run key.

It proposes parameters from what earlier trials gave (``bayesian`` search) and says which trial is worse than the
others were (pruning). A trial has its record there under its number, so an attempt that takes over from a pod that
died finds the parameters and the record of that one.
"""

from __future__ import annotations

import json
import logging
import math
import os
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from mlplatform.config import loading
from mlplatform.config.base import LOWER_IS_BETTER, Scalar
from mlplatform.config.environment import StudyDatabase
from mlplatform.config.family import SearchRange, SearchSpace
from mlplatform.documents.digests import digest
from mlplatform.documents.run import RunConfig
from mlplatform.errors import NonRetryableError, UnavailableError

if TYPE_CHECKING:
    import optuna

TRIAL = "trial"
"""User attribute of a record: number of the trial in the run."""
RANDOM_TRIALS = 5
"""Drawn at random before the study proposes; Optuna's 10 would be the whole search of many a run."""
UNPRUNED_TRIALS = 3
"""That must have come to their end before one is pruned: of fewer, a median says little."""
CONNECT_SECONDS = 10

log = logging.getLogger(__name__)


def is_needed(config: RunConfig) -> bool:
    """Tell whether a run's trials have a study."""
    return config.search.method == "bayesian" or config.search.pruning


class Study:
    """The study of a run. Errors of the database are `UnavailableError`, with its address and never with a password.

    Args:
        storage: Optuna's.
        address: of the database, for messages.
    """

    def __init__(self, config: RunConfig, storage: Any, address: str) -> None:
        self.config = config
        self.address = address
        self.storage = storage
        with self._database():
            self._study(0)  # is made by the trial that comes first

    def _study(self, trial: int) -> optuna.Study:
        import optuna

        search, metric = self.config.search, self.config.model.metric
        # Each trial draws from a sequence of its own: pods that start together would propose the same otherwise.
        seed = int(digest(self.config.seed, trial), 16) % 2**32
        startup = optuna.pruners.MedianPruner(n_startup_trials=UNPRUNED_TRIALS)
        return optuna.create_study(
            storage=self.storage,
            study_name=self.config.run_key,
            load_if_exists=True,
            direction="minimize" if metric in LOWER_IS_BETTER else "maximize",
            sampler=optuna.samplers.TPESampler(seed=seed, n_startup_trials=RANDOM_TRIALS, constant_liar=True),
            pruner=startup if search.pruning else optuna.pruners.NopPruner(),
        )

    def trial(self, index: int, params: Mapping[str, Scalar]) -> StudyTrial:
        """Return a trial's record: that of an earlier attempt, else a new one.

        Args:
            index: of the trial in the run.
            params: that are set for it. Under `bayesian` search the study draws those of the search space that are
                not among them.

        Raises:
            UnavailableError: the database does not answer.
        """
        import optuna
        from optuna.trial import TrialState

        with self._database():
            study = self._study(index)
            found = [record for record in study.get_trials(deepcopy=False) if record.user_attrs.get(TRIAL) == index]
            if found:
                trial_id = found[0]._trial_id
                log.info("trial %d has a record of an earlier attempt in study %s", index, study.study_name)
            else:
                known, distributions = self._recorded(params)
                # Written with its number in one go: `ask` would leave a record that is nobody's if it is cut off.
                template = optuna.trial.FrozenTrial(
                    number=-1,
                    trial_id=-1,
                    state=TrialState.RUNNING,
                    value=None,
                    datetime_start=None,
                    datetime_complete=None,
                    params=known,
                    distributions=distributions,
                    user_attrs={TRIAL: index},
                    system_attrs={},
                    intermediate_values={},
                )
                trial_id = self.storage.create_new_trial(study._study_id, template)
            record = optuna.Trial(study, trial_id)
            drawn: dict[str, Scalar] = {}
            if self.config.search.method == "bayesian":
                drawn = self._draw(record, params)
            return StudyTrial(self, study, record, {**params, **drawn})

    def _draw(self, record: optuna.Trial, params: Mapping[str, Scalar]) -> dict[str, Scalar]:
        """Ask for each parameter that is not set; those drawn by an earlier attempt are given again."""
        import optuna

        drawn: dict[str, Scalar] = {}
        finished = self.storage.get_trial(record._trial_id).state.is_finished()
        for name, distribution in sorted(distributions(self._space(), params).items()):
            if finished:  # its record cannot be added to
                if name in record.params:
                    drawn[name] = record.params[name]
            elif isinstance(distribution, optuna.distributions.FloatDistribution):
                drawn[name] = record.suggest_float(name, distribution.low, distribution.high, log=distribution.log)
            elif isinstance(distribution, optuna.distributions.IntDistribution):
                drawn[name] = record.suggest_int(name, distribution.low, distribution.high, log=distribution.log)
            else:
                assert isinstance(distribution, optuna.distributions.CategoricalDistribution)
                drawn[name] = record.suggest_categorical(name, distribution.choices)  # type: ignore[assignment]
        return drawn

    def _recorded(self, params: Mapping[str, Scalar]) -> tuple[dict[str, Scalar], dict[str, Any]]:
        """Return what a trial with given parameters has on record: those that the search space has."""
        if self.config.search.method == "bayesian":
            return {}, {}
        known = {
            name: distribution
            for name, distribution in distributions(self._space(), {}).items()
            if name in params and distribution._contains(distribution.to_internal_repr(params[name]))
        }
        return {name: params[name] for name in known}, known

    def _space(self) -> SearchSpace:
        return loading.search_space(self.config.model, self.config.family)

    @contextmanager
    def _database(self) -> Iterator[None]:
        with database_errors(self.address):
            yield


class StudyTrial:
    """A trial's record.

    Attributes:
        params: those set and those drawn.
    """

    def __init__(self, study: Study, optuna_study: optuna.Study, record: Any, params: dict[str, Scalar]) -> None:
        self.params = params
        self._study = study
        self._optuna_study = optuna_study
        self._record = record
        self._reported = set(optuna_study._storage.get_trial(record._trial_id).intermediate_values)
        self._warned = False

    def report(self, step: int, value: float) -> str | None:
        """Put a metric on record, and return why the trial is to be pruned, None if it is not.

        A database that does not answer costs the advice, not the training.
        """
        if not self._study.config.search.pruning or not math.isfinite(value):
            return None
        try:
            with self._study._database():
                if step not in self._reported:  # an attempt that resumes comes by steps that are on record
                    self._record.report(value, step)
                    self._reported.add(step)
                if not self._record.should_prune():
                    return None
        except UnavailableError as error:
            if not self._warned:
                log.warning("%s; the trial goes on without being compared with the others", error)
                self._warned = True
            return None
        return f"pruned at step {step}: {self._study.config.model.metric} {value:.6g} is worse than the median"

    def finish(self, status: str, value: float | None) -> None:
        """Tell how the trial ended; a second time changes nothing.

        Args:
            status: of `TrialResult`.
            value: of the task's metric.

        Raises:
            UnavailableError: the database does not answer.
        """
        from optuna.trial import TrialState

        with self._study._database():
            if status == "succeeded" and value is not None:
                self._optuna_study.tell(self._record, value, skip_if_finished=True)
                return
            state = TrialState.PRUNED if status == "pruned" else TrialState.FAIL
            self._optuna_study.tell(self._record, state=state, skip_if_finished=True)


def distributions(space: SearchSpace, params: Mapping[str, Scalar]) -> dict[str, Any]:
    """Return Optuna's form of a search space, less the parameters that are set."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    found: dict[str, Any] = {}
    for name, choices in space.items():
        if name in params:
            continue
        if not isinstance(choices, SearchRange):
            found[name] = CategoricalDistribution(list(choices))
        elif choices.integer:
            log_scale = choices.scale == "log"
            found[name] = IntDistribution(math.ceil(choices.low), math.floor(choices.high), log=log_scale)
        else:
            found[name] = FloatDistribution(choices.low, choices.high, log=choices.scale == "log")
    return found


def connect(config: RunConfig) -> Study:
    """Open the study of a run, making it and its tables if need be.

    Raises:
        NonRetryableError: no database is configured.
        UnavailableError: the database or its secret does not answer.
    """
    where = config.study_database
    if where is None:
        raise NonRetryableError(
            f"study_database: not set, but search.method {config.search.method}"
            f"{' with pruning' if config.search.pruning else ''} needs one; set training.study_database",
            kind="bad-config",
        )
    address = f"{where.host}:{where.port}/{where.name}"
    quiet()
    import optuna
    import sqlalchemy

    # The password is given to each new connection: it is in no URL, hence in no message, and may change meanwhile.
    options = {"creator": _connector(where, config.region), "pool_size": 2, "pool_pre_ping": True}
    url = "postgresql+psycopg://"
    with database_errors(address):
        engine = sqlalchemy.create_engine(url, **options)
        # Pods that start together would all make the tables; one after the other finds them there.
        with engine.connect() as connection:
            lock = int(digest("study tables"), 16) % 2**31
            connection.execute(sqlalchemy.text("select pg_advisory_lock(:lock)"), {"lock": lock})
            storage = optuna.storages.RDBStorage(url, engine_kwargs=options)
        engine.dispose()
    return Study(config, storage, address)


def quiet() -> None:
    """Keep Optuna's own messages, which repeat every parameter, and its warnings out of the log."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)


def _connector(where: StudyDatabase, region: str) -> Callable[[], Any]:
    def connection() -> Any:
        import psycopg

        user, password = _credentials(where, region)
        encrypted: dict[str, Any] = {} if where.secret_id or "PGSSLMODE" in os.environ else {"sslmode": "require"}
        return psycopg.connect(
            host=where.host,
            port=where.port,
            dbname=where.name,
            user=user,
            password=password,
            connect_timeout=CONNECT_SECONDS,
            application_name="trainer",
            **encrypted,
        )

    return connection


def _credentials(where: StudyDatabase, region: str) -> tuple[str, str]:
    """Return user and password: those of the secret, else the role's own token, which holds for 15 minutes."""
    import boto3

    if where.secret_id is None:
        token = boto3.client("rds", region_name=region).generate_db_auth_token(where.host, where.port, where.name)
        return where.name, token
    answer = boto3.client("secretsmanager", region_name=region).get_secret_value(SecretId=where.secret_id)
    try:
        secret = json.loads(answer["SecretString"])
        return str(secret["username"]), str(secret["password"])
    except (KeyError, TypeError, ValueError):  # without its words: they may quote the secret
        raise UnavailableError(
            f"secret {where.secret_id}: must be a JSON object of `username` and `password` (study_database.secret_id)"
        ) from None


@contextmanager
def database_errors(address: str) -> Iterator[None]:
    """Turn errors of the database, and of what leads to it, into `UnavailableError`."""
    import botocore.exceptions
    import psycopg
    import sqlalchemy.exc
    from optuna.exceptions import StorageInternalError

    try:
        yield
    except (sqlalchemy.exc.SQLAlchemyError, psycopg.Error, StorageInternalError) as error:
        reason: BaseException = error.__cause__ or error if isinstance(error, StorageInternalError) else error
        reason = getattr(reason, "orig", None) or reason
        first = (str(reason).strip().splitlines() or [type(reason).__name__])[0]
        raise UnavailableError(
            f"study database {address}: {first}; check that it runs and that this pod may reach it "
            "(training.study_database)"
        ) from None
    except (botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError) as error:
        raise UnavailableError(f"study database {address}: its credentials: {error}") from None
