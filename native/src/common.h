// What every kernel may use: fixed-size integers, scratch memory, and the threads of pool.cpp.
//
// Kernels are compiled once for each instruction set (isa_*.cpp), inside a namespace of its name (CODEC_ISA), from the
// same headers. They use no C++ library: its inline functions would be compiled for the largest instruction set, and
// the linker might take that copy for all.
#pragma once
#include <math.h>
#include <sched.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))
#define INLINE_METHOD inline __attribute__((always_inline))
// In front of a loop of a known, small number of turns: arrays of vectors that it indexes stay in registers.
#if defined(__clang__)
#define UNROLL _Pragma("clang loop unroll(full)")
#else
#define UNROLL _Pragma("GCC unroll 64")
#endif

// Status of an entry point. 0: done.
enum { CODEC_OK = 0, CODEC_NO_MEMORY = -1, CODEC_BAD_CALL = -2, CODEC_DAMAGED = -3 };

// Calls body(context, index, worker) for index 0 ... n - 1, in any order, on all threads of the pool. worker: 0 ...
// pool_threads() - 1; what a worker calls runs one after the other. A call from inside a body, and a call while another
// thread of the program uses the pool, run in the calling thread, as worker 0 (so scratch belongs to a thread: below).
typedef void (*PoolBody)(void *context, int64_t index, int worker);
void pool_run(int64_t n, PoolBody body, void *context);
int pool_threads();

// At least `bytes` bytes of scratch memory of this thread, aligned to 64, in one of 16 slots: valid until the thread
// asks for the same slot again. NULL without memory. Not cleared.
void *pool_scratch(int slot, size_t bytes);

template <class F> static void parallel(int64_t n, F &&f) {
  struct Call {
    static void body(void *context, int64_t index, int worker) { (*(F *)context)(index, worker); }
  };
  pool_run(n, Call::body, (void *)&f);
}

template <class T> INLINE T least(T a, T b) { return a < b ? a : b; }
template <class T> INLINE T most(T a, T b) { return a > b ? a : b; }
