// The structures of pixels.h: see args.h.
#pragma once
#include <stdint.h>

// A quantiser: floor(x * scale + 1/2) in low ... high, where x <= 0 is multiplied by `slope` first.
struct PlainGrid {
  double scale, slope, low, high;
};
