// The kernels in portable C++: what any compiler makes of them.
#include "common.h"
#include "args.h"
#define CODEC_ISA portable
#define CODEC_PORTABLE 1
#include "kernels.h"
