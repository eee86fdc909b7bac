"""Measuring this package on the machine it runs on."""
