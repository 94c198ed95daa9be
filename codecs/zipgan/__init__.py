"""ZipGAN"""
