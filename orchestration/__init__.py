"""Scheduling of the archival, the dbt build and the checks."""
