"""Studies of ZipGAN on turbulence that no weights have seen."""
