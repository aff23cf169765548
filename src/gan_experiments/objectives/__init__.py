"""Adversarial losses and penalties, each a formula that reads like its paper."""
