"""A round without an orchestrator: every step that assets, commands and servers share."""
