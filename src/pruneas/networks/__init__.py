"""Network references and the factories they name, the zoo for small images among them."""

from pruneas.networks.reference import NETWORKS, examples, make, provider

__all__ = ["NETWORKS", "examples", "make", "provider"]
