// The structures that entry points take, the same for all instruction sets.
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

// A quantiser: floor(x * scale + 1/2) in low ... high, where x <= 0 is multiplied by `slope` first.
struct PlainGrid {
  double scale, slope, low, high;
};

// A quantiser (native/grids.py): floor(leaky(v) * scale + 1/2), clamped; times unit for the number.
struct QuantiserArgs {
  int64_t given;
  double scale, unit, low, high;
  double slope; // of negative numbers, 1: no leak
};

// A convolution and what follows it (native/conv.py). Pointers to results are those of row `top`, after the shuffle.
struct ConvArgs {
  const int16_t *x; // (rows, width, inner): row 0 is row `first` of `height`
  int64_t first, rows, height, width, inner;
  int64_t kernel, stride, offset, form;
  const int16_t *packed; // by conv_pack
  int64_t blocks;        // of 16 output channels
  const int64_t *place;  // of each block: row and column in the shuffle, first channel, channels
  const int32_t *bias;   // (blocks * 16,)
  const float *scale;
  int64_t top, bottom, columns; // of the output, before the shuffle
  int64_t shuffle, channels;
  const float *residual; // NULL: none; likewise all below
  const float *gain;     // (blocks * 16,)
  const double *wide_gain;
  float *kept, *values;
  int16_t *out;
  int64_t wide;
  QuantiserArgs stream, grid;
};
