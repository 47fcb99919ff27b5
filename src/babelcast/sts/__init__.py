"""The speech service: ASR → MT → TTS behind REST and WebSocket."""
