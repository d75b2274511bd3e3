"""Images in: folders of classes, decoding, the embedded digits, batches in a seeded order."""
