#!/bin/sh
# Run once by the PostgreSQL image, on an empty volume: one database each for Dagster, the ledger and Label Studio.
set -eu
for name in dagster ledger labelstudio; do
  psql --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres --command "CREATE DATABASE $name OWNER \"$POSTGRES_USER\""
done
