// The kernels of one instruction set: a line for each family. Included by isa_*.cpp only.
namespace CODEC_ISA {
#include "simd.h"
#include "probe.h"
#include "ans.h"
#include "motion.h"
#include "passes.h"
#include "repair.h"
} // namespace CODEC_ISA
