// The kernels for x86-64 with AVX-512 and its VNNI.
#include "common.h"
#include "args.h"
#if defined(__x86_64__)
#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx2,fma,f16c")
#endif
#if !defined(__clang__) // GCC 12 warns of its own header
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
#include <immintrin.h>
#define CODEC_ISA avx512
#define CODEC_AVX512 1
#include "kernels.h"
#if defined(__clang__)
#pragma clang attribute pop
#endif
#endif
