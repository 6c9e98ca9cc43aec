"""The library behind the DAGs and the container steps: configuration, contracts, decisions.

Modules say in their first lines whether they import Airflow; most do not, so that containers and
tests can use them anywhere.
"""
