// The structures of mixing_residuals.h: see args.h.
#pragma once
#include <stdint.h>

// A field whose residuals are mixed. What interpolation knows of it is a CodecField; `bound` there is half the step of
// the finest level.
struct MixedField {
  double limit;       // a decoded value is no further off than that, or it is kept as it is
  double pace;        // of the filter that corrects predictions; 0: there is none
  int32_t *residuals; // (values) of what is coded, 0 at first
  const void *x;      // to write: the values
  void *raw;          // of escapes: read, or written
  int64_t n_raw;      // how many there are, or were
};
