"""A Kubernetes for the demo and the tests, and the image that runs in it."""

from sagepool_cluster.cluster import Cluster, bring_up, find_provider
from sagepool_cluster.errors import ClusterError
from sagepool_cluster.image import Image, build_image
from sagepool_cluster.provider import Provider

__all__ = [
    "Cluster",
    "ClusterError",
    "Image",
    "Provider",
    "bring_up",
    "build_image",
    "find_provider",
]
