"""Which ports the servers of a home get, also where several homes start at once."""

import contextlib
import os
import socket
from urllib.parse import urlsplit

from al_pipeline.core.errors import InputError
from al_pipeline.servers.processes import HOST, free_port, port_in_use

USUAL_PORTS = {"Dagster": 3000, "Label Studio": 8080}


class Ports:
    """The ports of one home's servers, held from when they are chosen on: minutes may pass before a server listens.

    What is held is the port of that number for UDP, which no server here uses: whoever else begins sees it taken, it is
    in nobody's way, and it is free again when this process ends, however it does.
    """

    def __init__(self) -> None:
        # Their descriptors.
        self._held = list[int]()

    def choose(self, name: str, wanted: int | None, last_url: str | None, taken: int | None = None) -> int:
        """Return the port asked for, or that of the last time: people and webhooks know the address.

        Parameters
        ----------
        name : str
            Of the server, as `USUAL_PORTS` has it.
        wanted : int, optional
            What was asked for.
        last_url : str, optional
            Where it was the last time.
        taken : int, optional
            The port of the other server.

        Raises
        ------
        InputError
            Something listens there, and it is not the usual port, for which any other will do.
        """
        check_port(name, wanted)
        last = kept_port(last_url)
        if wanted is None and last is not None and (last == taken or port_in_use(last)):
            raise InputError(
                f"Port {last}, where {name} of this home was the last time, is in use on {HOST}: end what listens "
                f"there, or choose another port with {option_of(name)}; it is kept from then on"
            )
        if (known := wanted or last) is not None:
            self._hold(known)
            return known
        usual = USUAL_PORTS[name]
        return usual if usual != taken and not port_in_use(usual) and self._hold(usual) else free_port()

    def _hold(self, port: int) -> bool:
        """Hold a port; say whether nobody else does."""
        held = socket.socket(type=socket.SOCK_DGRAM)
        with contextlib.suppress(OSError):
            held.bind((HOST, port))
            self._held.append(held.detach())
            return True
        held.close()
        return False

    def release(self) -> None:
        """Hold nothing any more."""
        while self._held:
            os.close(self._held.pop())

    def __del__(self) -> None:
        self.release()


def check_port(name: str, wanted: int | None) -> None:
    """Raise InputError if something listens on the port that is asked for."""
    if wanted is not None and port_in_use(wanted):
        raise InputError(
            f"Port {wanted}, asked for {name}, is in use on {HOST}: end what listens there or choose another port"
        )


def kept_port(last_url: str | None) -> int | None:
    """Return the port of a server that ran here the last time, None if it never did."""
    last = urlsplit(last_url or "")
    return last.port if last.hostname == HOST else None


def option_of(name: str) -> str:
    """Return the option that chooses a server's port."""
    return f"--{name.lower().replace(' ', '-')}-port"
