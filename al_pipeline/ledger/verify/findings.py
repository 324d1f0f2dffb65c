"""What a check finds: a sentence that names a problem, or one that remarks on what breaks no promise."""


class Remark(str):
    """A sentence about what people should know and nobody has to mend, or can mend any more."""

    __slots__ = ()
