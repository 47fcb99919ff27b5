"""Pure sound: chunking, scheduling, mixing. No sockets, no GStreamer, no clock of its own."""
