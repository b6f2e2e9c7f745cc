"""Where frames come from. A source is an iterable of FrameBlock; it ends when the recording does."""
