// The structures of floats.h: see args.h.
#pragma once
#include <stdint.h>

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

// Attention in windows of rows (height, width, 3 channels); qkv and out: from row `first` on. Windows top ... bottom - 1.
struct FloatAttention {
  const float *qkv, *scale, *bias;
  float *out;
  int64_t first, height, width, channels, heads, window, shift, top, bottom;
};

// The pixels and coefficients of a forward wavelet packet; out: from row `top` of cells on.
struct FloatPacket {
  const void *pixels;
  float *out;
  int64_t pixel_rows, pixel_columns, channels, bytes; // of a number: 1, 2; 4: a float
  int64_t rows, columns, top, bottom;                 // of cells
  int64_t levels, wrap;
  float scale, offset;
};
