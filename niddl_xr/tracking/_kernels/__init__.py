"""Arrays and numbers of tracking: numpy and scipy only."""
