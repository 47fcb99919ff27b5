"""RTMP: the protocol without I/O, and an asyncio client."""
