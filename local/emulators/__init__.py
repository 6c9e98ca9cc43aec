"""An AWS account on this machine to apply Terraform to: ministack and the project's own AWS API behind one port."""

from local.emulators.emulated import EmulatedAws
from local.emulators.names import ACCOUNT, REGION

__all__ = ["ACCOUNT", "REGION", "EmulatedAws"]
