// The structures of mixing_coefficients.h: see args.h.
#pragma once
#include <stdint.h>

// A band of the coefficients of a field, along its last four axes; along the first it is as long as the field.
struct CoefficientBand {
  int64_t low[4], side[4];          // its first coefficient and its sides
  int64_t parent[4], parent_side[4]; // of the band of the same kind one level coarser
  int64_t shift[4];                 // 1 along axes that the level has halved
  int64_t level;                    // 0: the finest
  int64_t kind;                     // a bit for each axis along which it is high-pass; 0: the means of the coarsest level
  int64_t has_parent;
  int64_t first;                    // the first band of its level: bands from there on are its sisters
};

// The quantised wavelet coefficients of fields, as they lie in memory.
struct CoefficientField {
  int32_t *values; // (shape)
  int64_t shape[5];
  const CoefficientBand *bands; // (n_bands), from coarse to fine
  int64_t n_bands;
};
