"""Run scripts on remote hosts as if they ran here."""
