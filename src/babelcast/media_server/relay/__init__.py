"""The embedded relay: an asyncio RTMP server with the subset of MediaMTX that the rest of the program uses."""
