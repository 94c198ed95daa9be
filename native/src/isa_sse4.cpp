// The kernels for x86-64 with SSE4.1, which processors without AVX2 have.
#include "common.h"
#include "args.h"
#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("sse4.1,popcnt"))), apply_to = function)
#else
#pragma GCC target("sse4.1,popcnt")
#endif
#include <immintrin.h>
#define CODEC_ISA sse4
#define CODEC_SSE4 1
#include "kernels.h"
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
