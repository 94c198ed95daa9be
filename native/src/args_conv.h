// The structures of conv.h: see args.h.
#pragma once
#include <stdint.h>

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
