"""scalex: audit text-to-image diffusion models from the inside."""
