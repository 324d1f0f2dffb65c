"""The science: images, models, query strategies, consensus, round decisions. Knows neither Dagster nor Label Studio."""
