// The structures of wide.h: see args.h.
#pragma once
#include <stdint.h>

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
