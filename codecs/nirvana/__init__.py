"""NIRVANA"""
