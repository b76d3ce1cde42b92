"""Do what each command of ``mask2former`` says; its words are in ``mask2former_cli``."""
