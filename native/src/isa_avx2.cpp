// The kernels for x86-64 with AVX2.
#include "common.h"
#include "args.h"
#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC target("avx2,fma,f16c")
#endif
#include <immintrin.h>
#define CODEC_ISA avx2
#define CODEC_AVX2 1
#include "kernels.h"
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
