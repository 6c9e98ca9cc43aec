"""Starts LocalStack inside its own environment, mended where it expects to be alone in a container.

Run as ``python localstack_launch.py FOLDER``.
"""

from __future__ import annotations

import functools
import runpy
import sys
import warnings
from typing import Any


def main() -> None:
    """Mend, then become ``localstack.runtime.main``."""
    mended: Any = warnings
    if sys.version_info < (3, 13):
        # Its container has Python 3.13; its key management imports `deprecated` from there.
        import typing_extensions

        mended.deprecated = typing_extensions.deprecated

    from localstack.services.s3 import provider
    from localstack.services.sqs import constants
    from localstack.utils.aws import aws_stack
    from twisted.internet import endpoints

    # It takes only the port from GATEWAY_LISTEN and would be open to the network.
    endpoints.TCP4ServerEndpoint = functools.partial(endpoints.TCP4ServerEndpoint, interface="127.0.0.1")
    # One folder in /tmp for all of a machine's LocalStacks otherwise.
    provider.DEFAULT_S3_TMP_DIR = f"{sys.argv[1]}/tmp/s3"
    # It would ask a name server whether `s3.<its own address>` is a name.
    aws_stack.CACHE_S3_HOSTNAME_DNS_STATUS = False
    # It would keep a policy that was taken away, as an empty one, and Terraform would wait for its end for ever.
    constants.DELETE_IF_DEFAULT["RedriveAllowPolicy"] = ""
    del sys.argv[1:]
    runpy.run_module("localstack.runtime.main", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
