"""The steps of gpu_check.py, one file each, with their runner and report."""
