// The C ABI: which instruction set is in use, and the entry points that call its kernels.
#include "common.h"
#include "args.h"
#if defined(__x86_64__)
#include <cpuid.h>
#endif
#if defined(__linux__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

#define ABI extern "C" __attribute__((visibility("default")))

#define ENTRY(name, parameters, arguments) int name parameters;
namespace portable {
#include "entries.def"
}
#if defined(__x86_64__)
namespace sse4 {
#include "entries.def"
}
namespace avx2 {
#include "entries.def"
}
namespace avx512 {
#include "entries.def"
}
#elif defined(__aarch64__)
namespace neon {
#include "entries.def"
}
#endif
#undef ENTRY

namespace {

enum Isa { PORTABLE, SSE4, AVX2, AVX512, AMX, NEON, COUNT }; // AMX: the kernels of AVX512, some of which have a form for it
const char *const NAMES[COUNT] = {"portable", "sse4", "avx2", "avx512-vnni", "amx", "neon"};

#if defined(__x86_64__)
// Whether there are tiles of bytes, and the system lets this process use them.
bool has_amx() {
#if defined(__linux__) && (defined(__clang__) || __GNUC__ >= 11)
  unsigned a, b, c, d;
  if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return false;
  const unsigned tiles = 1u << 24, bytes = 1u << 25;
  const long ask = 0x1023, tile_data = 18; // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA
  return (d & tiles) && (d & bytes) && syscall(SYS_arch_prctl, ask, tile_data) == 0;
#else
  return false;
#endif
}
#endif

bool has(int isa) {
#if defined(__x86_64__)
  __builtin_cpu_init();
  if (isa == SSE4) return __builtin_cpu_supports("sse4.1") && __builtin_cpu_supports("popcnt");
  bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (isa == AVX2) return avx2;
  if (isa == AVX512 || isa == AMX)
    return avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vnni") && (isa == AVX512 || has_amx());
#elif defined(__aarch64__)
  if (isa == NEON) return true;
#endif
  return isa == PORTABLE;
}

int best() {
  for (int isa = COUNT - 1; isa > PORTABLE; isa--)
    if (has(isa)) return isa;
  return PORTABLE;
}

int current = -1;

int isa() {
  int now = __atomic_load_n(&current, __ATOMIC_RELAXED);
  if (now < 0) {
    now = best();
    __atomic_store_n(&current, now, __ATOMIC_RELAXED);
  }
  return now;
}

} // namespace

// The name of the instruction set in use.
ABI const char *codec_isa() { return NAMES[isa()]; }

// The names of those that this machine has, by rising speed; NULL behind the last.
ABI const char *codec_isa_name(int index) {
  for (int isa = 0; isa < COUNT; isa++)
    if (has(isa) && index-- == 0) return NAMES[isa];
  return nullptr;
}

// Takes the instruction set of this name from now on; CODEC_BAD_CALL if the machine hasn't got it.
ABI int codec_set_isa(const char *name) {
  for (int isa = 0; isa < COUNT; isa++)
    if (has(isa) && strcmp(NAMES[isa], name) == 0) {
      __atomic_store_n(&current, isa, __ATOMIC_RELAXED);
      return CODEC_OK;
    }
  return CODEC_BAD_CALL;
}

#if defined(__x86_64__)
#define ENTRY(name, parameters, arguments)                                                                             \
  ABI int codec_##name parameters {                                                                                    \
    switch (isa()) {                                                                                                   \
    case AMX:                                                                                                          \
    case AVX512: return avx512::name arguments;                                                                        \
    case AVX2: return avx2::name arguments;                                                                            \
    case SSE4: return sse4::name arguments;                                                                            \
    default: return portable::name arguments;                                                                          \
    }                                                                                                                  \
  }
#elif defined(__aarch64__)
#define ENTRY(name, parameters, arguments)                                                                             \
  ABI int codec_##name parameters { return isa() == NEON ? neon::name arguments : portable::name arguments; }
#else
#define ENTRY(name, parameters, arguments)                                                                             \
  ABI int codec_##name parameters { return portable::name arguments; }
#endif
#include "entries.def"
