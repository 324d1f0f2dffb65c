"""What `al up` runs, and what the servers of Dagster are started with."""
