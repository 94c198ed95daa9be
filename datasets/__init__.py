"""Data modules for training, and generators of real data.

With the root of a checkout on the path (`python -m ...` from it), `import datasets` would find this folder instead of
the Hugging Face package, and other libraries would fail in odd ways far from here. So it refuses that name, as every
package at the root does.
"""

if "." not in __name__:
    raise ImportError(f"`{__name__}` is here a folder of a codec-suite checkout: use codec.{__name__}, or python -P")
