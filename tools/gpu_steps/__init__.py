"""The steps of gpu_check.py, one file each, and what runs and reports them."""
