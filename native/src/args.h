// The structures that entry points take, the same for all instruction sets.
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
// Distributions, a row for each: ans.h. places and built are filled in when a row is first used.
struct CodecRows {
  const uint16_t *cdf;
  const int64_t *at;
  const int32_t *lengths;
  uint16_t *places;
  uint8_t *built;
  int64_t n;
};

// The state of an ANS stream. words: those that are still to come, taken from the end (of an encoder: its own).
struct CodecAns {
  const uint32_t *words;
  int64_t n_words;
  uint64_t state;
};

// The points of one level of a field whose odd indices (in units of the level's spacing) are those of some axes:
// interpolation.h. The field has five axes, the first ones 1 long if it has fewer; lines run along the last.
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
