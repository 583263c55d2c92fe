"""The marts: building them with dbt, folding with dbt's SQL, comparing them with the source."""
