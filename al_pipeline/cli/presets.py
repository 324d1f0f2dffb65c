"""`al presets`: settings that go together, as plain settings."""

from al_pipeline.cli.session import console, tell


def presets() -> None:
    """Show what each preset of `al up --preset` sets, as lines for al.toml."""
    from al_pipeline.settings.kept import toml
    from al_pipeline.settings.presets import PRESETS

    for name, (what, values) in PRESETS.items():
        console.print(f"[bold]{name}[/bold]", soft_wrap=True)
        tell(f"# {what}.{toml(values)}")
        console.print()
