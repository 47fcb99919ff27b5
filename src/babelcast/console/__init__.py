"""The operator's page: what it shows is worked out here, on the server; the page itself is in ``page/``."""
