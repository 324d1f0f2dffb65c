"""Errors a person can act on: each says what was wrong, with which value, where it came from and what to do."""


class ALError(Exception):
    """Base of every error that this project raises on purpose."""


class InputError(ALError, ValueError):
    """A setting, argument or file content that cannot be used."""


class ImageError(ALError):
    """One image file that cannot be decoded; ``str(error)`` is the reason shown in the quarantine."""


class CheckpointError(ALError):
    """A checkpoint or weights file that is missing, damaged or of another shape than asked for."""


class FileError(ALError):
    """A file that cannot be written, for example because the disk is full."""
