// The kernels for 64-bit ARM, all of which have NEON.
#include "common.h"
#include "args.h"
#if defined(__aarch64__)
#include <arm_neon.h>
#define CODEC_ISA neon
#define CODEC_NEON 1
#include "kernels.h"
#endif
