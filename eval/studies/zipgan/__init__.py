"""What ZipGAN is worth, on turbulence that no weights have seen."""
