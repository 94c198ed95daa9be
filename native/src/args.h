// The structures that entry points take, the same for all instruction sets.
#pragma once
#include <stdint.h>

// native/lattice.py, StepNetwork.rows. Weights are packed as [outputs / 16][inputs / 2][16][2], zeros beyond the last.
struct LatticeArgs {
  const int16_t *plane; // a pixel has `channels` numbers, a row row_stride; `pad` zeros around
  const int32_t *positions;
  uint8_t *row;
  int32_t *centre;
  const int16_t *first, *second, *third;
  const int32_t *bias1, *bias2, *bias3;
  const float *scale1, *scale2, *scale3;
  const int32_t *shifts, *offsets;
  int64_t n, width, row_stride, channels;
  int32_t kernel, pad, inputs, hidden, outputs, scales;
  int32_t largest, mean_bits, largest1, largest2;
  float act1, act2, minimum, steps;
};

// A wavelet transform along one axis of n samples, in bands of up to 16 outputs. bands: n_bands times first output,
// outputs, first input, inputs, row of `matrices` where the band begins. matrices: rows of 16 whole numbers, one row for
// each input. wrap: by how much inputs may lie before the first and behind the last sample.
struct WaveletAxis {
  const int32_t *bands;
  const double *matrices;
  int64_t n_bands, n, wrap;
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
