"""Arrays and numbers of segmentation: numpy and scipy only."""
