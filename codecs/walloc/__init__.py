"""WaLLoC"""
