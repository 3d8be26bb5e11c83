"""Wake-ups between processes, and the feed of what happened."""
