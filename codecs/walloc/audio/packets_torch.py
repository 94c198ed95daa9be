def export_small(*a): return b""
def export_torch(*a): return b""
