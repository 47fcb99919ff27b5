"""Forwarding finished programmes to third-party RTMP destinations."""
