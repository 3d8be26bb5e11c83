"""What tests share: real services, real processes, and ways to wait without sleeping."""
