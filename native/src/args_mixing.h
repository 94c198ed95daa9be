// The structures of mixing.h: see args.h.
#pragma once
#include <stdint.h>

// A context-mixing coder: its tables, what it has learned, and the stream that it writes or reads (mixing.h).
struct MixingCoder {
  // Tables, which never change.
  const int32_t *stretch; // (11776) 256 times the log odds of a probability (`mix_odds`)
  const int32_t *squash;  // (6144) the probability, of 16 bits, of log odds -3072/256, ..., 3071/256
  const int32_t *step;    // (1024) of a count: 2^15 times the step of its probability towards the next bit
  const int32_t *trust;   // (1024) of a count: 2^8 times the weight of its log odds; 0 of none
  const int32_t *lean;    // (1024) of a count: 2^16 / 256 times the weight of its probability less a half
  const int32_t *worth;   // (1024) of a count: its trust, and 2^16 times its lean
  const int32_t *pace;    // (1024) of the age of a set of weights: 2^14 times its learning rate
  const int32_t *price;   // (4096) of a probability of 12 bits: 2^16 times its bits
  // What is learned.
  uint32_t *lines;         // (n_lines, 16) 2^16 and a check of 16 bits, then 15 nodes: 22 bits of probability, 10 of count
  int32_t *weights, *ages; // (n_sets, n_inputs) 2^20 times a weight; (n_sets)
  int32_t *finals, *final_ages; // (n_finals, n_choices), (n_finals)
  uint16_t *refined;            // (n_refined, 33) probabilities of 16 bits
  // Sizes. n_lines is a power of two, n_inputs a multiple of 16.
  int64_t n_lines, n_contexts, n_extra, n_inputs, n_choices, n_sets, n_finals, n_refined;
  int64_t limit;      // of counts
  int64_t refine_by;  // a refined probability moves by 2^-refine_by of its error
  int64_t frozen;     // whether nothing is learned
  // The stream.
  uint8_t *bytes;
  int64_t size, at; // of the stream being read, or of the room to write; where it is
  uint64_t low, range, code;
  int64_t bits;   // 2^16 times the bits of all decisions so far
  int64_t failed; // whether there was no room, or the stream had ended long before
};
