"""One instellar.yml becomes signed Alpine packages in a bucket that apk reads as a repository."""

__version__ = "0.1.0"
