"""Data preparation: one plan of relational steps, two engines that carry it out with the same outcome.

`plan` says what is done, in DuckDB's SQL, as a pure function of the configuration and the types of the query's
columns. `duck` does it in this process, `distributed` hands its translation (`translate`) to Spark, where `spark_job`
does it. `outcome` makes splits, profile and refusals of the aggregates that either engine reports.
"""
