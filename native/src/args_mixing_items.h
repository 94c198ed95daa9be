// The structure of mixing_items.h: see args.h.
#pragma once
#include <stdint.h>

// A block of items, of which each call codes one position.
struct MixingItems {
  int64_t n, channels, height, width; // items; their shape. channels * height * width positions
  int64_t guided, each;               // whether there is a guide; whether each item has a coder of its own
  // The trees of decisions: a node's symbols from `middle` on are its bit 1. A child is a node, or -1 less a symbol.
  const int32_t *roots, *middle, *below, *above; // (positions), (nodes), ...
  const int32_t *group, *place, *rank, *kind;    // its group of lines, its node there, how frequent it is, its depth
  const int64_t *first_level;                    // (positions) in `level_of`
  const uint8_t *level_of;                       // of all symbols of each tree: 0 to 255
  const uint8_t *mean_of;                        // (257) mean levels to 32 steps
  const int32_t *spot;                           // (positions) what chooses weights by place, below n_spots
  int64_t n_spots;
  int32_t *symbols;         // (positions, n)
  uint8_t *levels;          // (positions, n)
  uint8_t *rows, *columns;  // (n), (width, n): how many positions ago there was ink, at most 15
  int32_t *sums;            // (n) of levels
  // The guide's: at this position.
  const double *belief;       // (n, pitch) whole numbers
  const float *const *tables; // (n_tables) of (symbols + 1, pitch) whole numbers, cumulative
  const int32_t *which;       // (n) an item's table
  int64_t pitch;
};
