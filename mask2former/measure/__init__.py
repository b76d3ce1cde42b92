"""Measure speed and memory on this machine: of the package's command and of the tools for those who change it."""
