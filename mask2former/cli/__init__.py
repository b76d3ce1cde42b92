"""What each command of ``mask2former`` does; its words are in ``mask2former_cli``."""
