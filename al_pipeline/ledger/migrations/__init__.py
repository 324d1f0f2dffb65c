"""The ledger's schema over time; `al_pipeline.ledger.database.migrate` brings a database to the newest revision."""
