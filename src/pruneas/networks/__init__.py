"""Network references and the factories they name, the zoo for small images among them."""

from pruneas.networks.reference import NETWORKS, examples, make, provider, tensors_of, usual_shape

__all__ = ["NETWORKS", "examples", "make", "provider", "tensors_of", "usual_shape"]
