"""Logs, metrics and the redaction of secrets."""
