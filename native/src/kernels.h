// The kernels of one instruction set: a line for each family. Included by isa_*.cpp only.
namespace CODEC_ISA {
#include "simd.h"
#include "probe.h"
#include "lattice.h"
#include "pictures.h"
#include "wide.h"
#include "wavelet.h"
#include "pixels.h"
#include "product.h"
#include "epilogue.h"
#include "winograd.h"
#include "conv.h"
#define VB FLOATS_VB
#include "floats.h"
#undef VB
inline namespace floats { // its names stay its own
#include "floats.h"
} // namespace floats
#include "motion.h"
#include "ans.h"
#include "interpolation.h"
#include "floats.h"
#include "wide.h"
#include "wavelet.h"
#include "pixels.h"
#include "circuits.h"
#include "ans.h"
#include "motion.h"
#include "passes.h"
#include "repair.h"
} // namespace CODEC_ISA
