"""All of torch: networks, patches, losses, training, prediction. Nothing outside this folder imports torch."""
