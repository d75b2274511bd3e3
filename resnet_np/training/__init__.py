"""Fine-tuning: the frozen features, the loop, the figures, the checkpoint."""
