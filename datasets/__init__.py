"""Data modules for training, and generators of real data.

With the root of a checkout on the path (`python -m ...` from it), `import datasets` would find this folder instead of
the Hugging Face package, and other libraries would fail in odd ways far from here. So it refuses that name.
"""

if __name__ == "datasets":
    raise ImportError(
        "this is the `datasets` folder of a codec-suite checkout, found because the checkout is on sys.path; "
        "use `codec.datasets` for it, and run modules as `python -P -m codec...` to get the Hugging Face package"
    )
