// The structures of interpolation.h: see args.h.
#pragma once
#include <stdint.h>

// The points of one level of a field whose odd indices (in units of the level's spacing) are those of some axes:
// interpolation.h. Lines run along the last axis.
struct CodecPart {
  int64_t n[5];      // points along each axis
  int64_t pitch[5];  // values from a point to the next along each axis
  int64_t start;     // values in front of the first point
  int64_t n_axes;    // odd ones; 0: the corner points, predicted by `middle`
  int64_t axis[4];   // which they are
  int64_t reach[4];  // values from a point to the known one next to it
  int64_t known[4];  // known points along the axis
  double weight[4], weights; // of the axes, and their sum
  double middle, share, bound, quantum;
  int64_t context; // the first of its contexts
  int64_t level;   // its spacing is 2^(level - 1)
};

// A field that is filled from coarse to fine. It has five axes, the first ones 1 long if it has fewer; nothing is
// interpolated along the first 5 - n_axes.
struct CodecField {
  int64_t shape[5], n_axes, item; // bytes of a value
  double weight[4];               // of the last n_axes axes, in their order
  double share[65];               // of each level, of the bound
  double bound, middle;
  void *values;
  float *sizes; // of the residuals
};
