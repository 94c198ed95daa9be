// The structures that entry points take, the same for all instruction sets: a line for each family.
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

// ---- wide.h: see there

typedef struct {
  const int16_t *weight; // as wide_pack has it: [blocks][taps][pairs of inputs][16 outputs][2 inputs]
  const double *bias;    // for each packed output: 16 * blocks
  int32_t inputs, blocks;
  int32_t taps;
  int32_t fold;   // pairs after which int32 sums may be full
  int32_t single; // the largest input for which one chain will do
  int32_t shift;  // an input is high * 2^shift + low
  int32_t least, most; // inputs are cut off here
  int32_t size;        // sides of the kernel
  const int8_t *tap;   // row and column of each tap, (taps, 2), the middle is 0, 0
} WideLayer;

// value = sum * scale (* gain) (+ add), negative ones * slope; then floor(value + half), in least ... most.
typedef struct {
  const double *scale, *gain, *add; // for each packed output; gain, add: may be NULL
  double half, slope, least, most;
} WideOut;

typedef struct {
  WideLayer layer;
  WideOut out;
  const void *x; // row `first` of the input, int32 or int16
  int32_t x_bits, first, height, width;
  int64_t x_cell, x_row; // numbers from a cell, a row to the next
  int32_t top, bottom;   // rows of x
  int32_t *y;            // row `top` of the output, (., width out, channels)
  int32_t y_width, channels, blocks_of_phase, shuffle;
} WideRows;

typedef struct {
  int32_t height, width;
  int32_t parity;       // cells whose row + column has it; -1: all
  const int32_t *fine[2]; // (height, width, channels), or NULL
  int32_t fine_channels[2], fine_shift[2];
  int32_t leak; // of the grid of the input of `first`
  const void *y; // (height, width, y_cell) int16 or int32, of which the layer takes channels from y_start on
  int32_t y_bits, y_cell, y_start;
  WideLayer conv; // of y; taps 0: none. Its output is the last part of the input of `first`
  WideOut conv_out;
  WideLayer first, second;
  WideOut first_out, second_out;
  int32_t channels, blocks_of_phase; // of the result: two phases (means, rows) or one (shifts)
  int32_t levels;                    // rows are 0 ... levels - 1
  int64_t cells;                     // of a channel of means and rows
  int16_t *means;                    // (channels, cells)
  uint8_t *rows;                     // (channels, cells)
  int8_t *shifts;                    // (height, width, channels), if means is NULL
} WideCells;
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
// A convolution in float32 of rows (height, width, inner); x: from row `first` on.
struct FloatConv {
  const float *x, *weight; // weight: blocks of 16 outputs, (taps, inner, 16) each; winograd: (36, blocks, inner, 16)
  const float *bias;       // padded to blocks of 16
  const float *gain, *residual; // or NULL; the residual, as `out`, from row `top` on
  float *out;
  int64_t first, height, width, top, bottom, inner, outer, kernel, stride;
  int64_t act; // 0: none, 1: leaky, 2: GELU
  int64_t winograd;
};
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
