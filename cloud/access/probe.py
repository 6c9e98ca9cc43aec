"""Whether something answers at an address."""

from __future__ import annotations

import http.client
import ssl

from cloud.access.targets import Target


def silence(target: Target, host: str, port: int, seconds: float) -> str | None:
    """Ask a target at an address, as a browser there would; return why it does not answer, or None if it does.

    Its certificate has to be for its own name, wherever it is asked.
    """
    connection = http.client.HTTPConnection(host, port, timeout=seconds)
    try:
        connection.connect()
        if target.tls:
            context = ssl.create_default_context(cadata=target.authority)
            connection.sock = context.wrap_socket(connection.sock, server_hostname=target.host)
        connection.request("GET", target.path)
        status = connection.getresponse().status
    except (OSError, ValueError, http.client.HTTPException) as error:
        return str(error) or type(error).__name__
    finally:
        connection.close()
    return None if status in target.statuses else f"{target.path} is answered with {status}"
