"""Files in, named arrays out, and back: knows no tensors and no models."""
