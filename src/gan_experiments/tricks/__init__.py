"""The documented tricks that change networks, samples or views; each one class and one YAML."""
