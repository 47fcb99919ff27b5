"""Made media for when there is none: a still picture with a text or an image, the last picture, silence."""
