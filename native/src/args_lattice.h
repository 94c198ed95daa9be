// The structures of lattice.h: see args.h.
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
