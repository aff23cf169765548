"""gan-experiments: one command that composes YAML groups into a GAN training run."""

__version__ = "0.1.0"
