"""The command `al`."""
