"""Comparing methods: a grid of runs in parallel processes, and what it comes to as tables, figures and a page.

A grid is variants of a configuration x methods x seeds. Each run is an ordinary run folder; everything shown is
computed from those folders alone.
"""
