"""Network references and the factories they name, the zoo for small images among them."""

from pruneas.networks.reference import NETWORKS, make, provider

__all__ = ["NETWORKS", "make", "provider"]
