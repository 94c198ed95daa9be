// The structures of mixing_labels.h: see args.h.
#pragma once
#include <stdint.h>

// Label maps: unordered symbols on a grid, sheet behind sheet.
struct MixingLabels {
  int32_t *labels; // (sheets, height, width), each below `alphabet`
  int64_t sheets, height, width, alphabet;
  int64_t kind;       // 0: maps, drawings, masks; 1: pictures of few colours, whose neighbours are seldom equal
  int64_t candidates; // how many guesses are tried, 0 to 3, before a label is spelled out
  int64_t deep;       // whether contexts look into the sheet before; kind 0 only
  // What is learned beside the mixer.
  int32_t *pads;  // (2, height + 5, width + 8): this sheet and the one before, with margins; zeros at first
  uint64_t *seen; // (2, 2^seen_bits) of a neighbourhood: 32 bits of check, the label that came last, how often; zeros
  uint32_t *past; // (2, 2^seen_bits) of a neighbourhood: where it was last; zeros
  uint16_t *hits; // (12, 64) how often the guess of a source is right, by its state
  int64_t seen_bits;
  int64_t decisions; // how many there were
};
