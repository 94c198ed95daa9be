"""S2LIC"""
