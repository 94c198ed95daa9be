"""The compiled kernels under the address and undefined behaviour sanitizers: `python -P tests/sanitize.py`.

Compiles native/src with them beside the installed module, runs tests/native on every instruction set, and then the
fuzzer, whose damaged files reach each codec's kernels. A report of a sanitizer ends the process that makes it, which
fails the run. Needs GCC. Run by .ci/run; --seconds says how long the fuzzer runs.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
OUT = ROOT / "data" / "sanitized"
COMPILER = os.environ.get("CXX", "g++")
# Shifts of negative numbers mean what they say: -fwrapv. -O1 keeps the register tiles of the kernels in reach.
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize=shift", "-fno-sanitize-recover=all", "-O1", "-g1"]


def build() -> Path:
    """The module with sanitizers, compiled with the flags that the package is compiled with."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    (module,) = project["tool"]["setuptools"]["ext-modules"]
    OUT.mkdir(parents=True, exist_ok=True)

    def compiled(source: str) -> Path:
        made = OUT / f"{Path(source).stem}.o"
        flags = [*module["extra-compile-args"], *SANITIZERS, "-fPIC"]
        subprocess.run([COMPILER, *flags, "-c", ROOT / source, "-o", made], check=True)
        return made

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        objects = list(pool.map(compiled, module["sources"]))
    target = OUT / "_kernels.so"
    subprocess.run([COMPILER, "-shared", *SANITIZERS, *objects, "-o", target, "-pthread"], check=True)
    return target


def environment(module: Path) -> dict[str, str]:
    """What a process needs to load the module: the sanitizers' libraries come first."""
    libraries = [
        subprocess.run(
            [COMPILER, f"-print-file-name={name}"], capture_output=True, text=True, check=True
        ).stdout.strip()
        for name in ("libasan.so", "libubsan.so", "libstdc++.so.6")
    ]
    return {
        **os.environ,
        "LD_PRELOAD": " ".join(libraries),
        "CODEC_NATIVE_FILE": str(module),
        # Python keeps what it has until it ends; a huge allocation of a damaged file gives NULL as without sanitizers
        "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1:quarantine_size_mb=16:abort_on_error=1",
        "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1:abort_on_error=1",
        "OMP_NUM_THREADS": "2",
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60, help="how long the fuzzer runs")
    parser.add_argument("--seed", default="1")
    args = parser.parse_args()
    if shutil.which(COMPILER) is None:
        sys.exit(f"missing: {COMPILER}")
    variables = environment(build())
    python = [sys.executable, "-P"]
    subprocess.run([*python, "-c", "from codec import native; assert native.library()"], env=variables, check=True)
    tests = [*python, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/native"]
    fuzzer = [*python, "tests/fuzz/run.py", "--seconds", str(args.seconds), "--seed", args.seed, "--out", "data/fuzz"]
    return max(subprocess.run(command, cwd=ROOT, env=variables).returncode != 0 for command in (tests, fuzzer))


if __name__ == "__main__":
    sys.exit(main())
