// The structures of wavelet.h: see args.h.
#pragma once
#include <stdint.h>

// A wavelet transform along one axis of n samples, in bands of up to 16 outputs. bands: n_bands times first output,
// outputs, first input, inputs, row of `matrices` where the band begins. matrices: rows of 16 whole numbers, one row for
// each input. wrap: by how much inputs may lie before the first and behind the last sample.
struct WaveletAxis {
  const int32_t *bands;
  const double *matrices;
  int64_t n_bands, n, wrap;
};
