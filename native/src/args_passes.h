// The structures of passes.h: see args.h.
#pragma once
#include <stdint.h>

// The symbols of passes: read from a stream, or made by an encoder, which gets the rows that they are to be coded in.
struct PassCoder {
  const CodecRows *tables; // of symbols, then those of escapes (entropy/tables.py)
  CodecAns *ans;           // NULL: an encoder's
  const int32_t *offset;   // (n_rows,) the first symbol of each row
  const double *min_bits;  // (n_rows + 9,) of the cheapest column
  int64_t n_rows;
  int32_t largest;       // magnitude of a symbol
  uint8_t *rows;         // of an encoder, room for all symbols, or NULL, as the next two
  int32_t *symbols;      // likewise
  int64_t *steps;        // the number of symbols in each step, room for 16
  int64_t n_steps;       // how many there were
};

// A network of 32 hidden units, weights of 8 bits, features from 0 to 127. bias: (32,) in 64ths of a unit, with half a
// unit and what is the same everywhere; out: (outputs, 32); out_bias: (outputs,) in 256ths of a row, with half of one.
struct PassNetwork {
  const int16_t *weight; // (features, 32)
  const int32_t *bias;   // (passes, 32)
  const int16_t *out;
  const int32_t *out_bias;
};

// The levels of blocks (h, w), 0 ... 4. All but the texture, (16, h, w), and out, (4, h, w), are (h, w); past, cross and
// twin may be NULL. out: what the network gives, in 256ths of a row, or NULL.
struct LevelPlane {
  int64_t h, w;
  const uint8_t *texture, *past, *cross, *twin, *motion;
  uint8_t *levels;
  int32_t *out;
};

// The coefficients of a plane of h x w blocks, (64, h, w). target: of an encoder that chooses them, in steps; costs:
// (61, 81) bits of the symbols -40 ... 40; spent: (5, h, w) what the bands of each level cost.
struct CoefficientPlane {
  int64_t h, w, first_band;
  const uint8_t *levels, *texture, *cross, *twin, *past; // (h, w), then (64, h, w); the last three may be NULL
  const uint8_t *of_block;                               // (3, h, w): texture of low bands, level of the past, motion
  const int32_t *band_bias;                              // (64,) in 256ths of a row
  const uint8_t *magnitude;                              // (largest + 1,) the feature of a magnitude
  const int32_t *given; // of an encoder that has chosen them
  int32_t *q;            // all zeros before
  uint8_t *sizes;        // likewise: features of q's magnitudes
  const double *target;
  const float *costs;
  float lambda;
  double *spent;
};
