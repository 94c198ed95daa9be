// The structures that entry points take, the same for all instruction sets.
#pragma once
#include <stdint.h>

// What the cost of a vector depends on: |aim - prediction| times weight / 32, for blocks of 8x8 samples.
struct MotionCosts {
  const int16_t *aim, *phases; // (height, width), (16, height, width)
  const uint8_t *weight;       // (rows, columns)
  int64_t height, width, rows, columns;
};

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

// A small network that repairs planes: two 3x3 convolutions of blocks of fold x fold samples, edges repeated. fold 2: one
// plane, 8 inputs, 16 hidden, 4 outputs; fold 1: two planes, 4, 8, 2. Parameters below 128 in magnitude.
struct RepairPlanes {
  int64_t height, width;    // of the padded planes, multiples of 16
  const double *total[2];   // (height, width), whole numbers, sixteenths of a sample
  const double *residual[2];
  const uint8_t *active[2]; // (height / 8, width / 8), blocks that change
  int fold;
  int32_t step;              // in sixteenths
  const int16_t *w1, *w2;    // (hidden, inputs, 3, 3), (outputs, hidden, 3, 3)
  const int32_t *b1, *b2;
  int64_t rows, columns;     // of the result
  int32_t low, high;         // its limits
  int16_t *out[2];           // (rows, columns)
};
