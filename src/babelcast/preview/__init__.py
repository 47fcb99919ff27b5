"""WebRTC preview: a process of its own that shows what a path carries, and the routes that others mount for it."""
