"""What towers take: images of any file, texts as tokens."""
