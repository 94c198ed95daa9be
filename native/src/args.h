// The structures that entry points take, the same for all instruction sets: a line for each family.
#pragma once
#include "args_ans.h"
#include "args_circuits.h"
#include "args_conv.h"
#include "args_floats.h"
#include "args_interpolation.h"
#include "args_lattice.h"
#include "args_motion.h"
#include "args_passes.h"
#include "args_pixels.h"
#include "args_repair.h"
#include "args_wavelet.h"
#include "args_wide.h"
