"""A warm start: training goes on from the last round's weights."""

from collections.abc import Sequence

from torch import nn

from al_pipeline.core.errors import InputError
from al_pipeline.core.learning.checkpoint import HEAD, Checkpoint


def take_over(model: nn.Module, previous: Checkpoint, class_names: Sequence[str], architecture: str) -> None:
    """Load the weights of the last round; of the classifier the rows of the classes that it knew.

    Parameters
    ----------
    model : nn.Module
        A new network, changed in place.
    previous : Checkpoint
    class_names : sequence of str, length K
        Of the new network.
    architecture : str

    Raises
    ------
    InputError
        The last round had another architecture.
    """
    info = previous.info
    if info.architecture != architecture:
        raise InputError(
            f"a warm start of {architecture} cannot take the weights of round {info.round}, a {info.architecture}: set "
            "training.warm_start to false or training.architecture back"
        )
    state = dict(model.state_dict())
    state |= {name: value for name, value in previous.state.items() if name not in HEAD}
    known = {name: row for row, name in enumerate(info.class_names)}
    rows = [(i, known[name]) for i, name in enumerate(class_names) if name in known]
    for name in HEAD:
        state[name] = state[name].clone()
        state[name][[new for new, _ in rows]] = previous.state[name][[old for _, old in rows]]
    model.load_state_dict(state)
