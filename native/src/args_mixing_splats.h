// The structures of mixing_splats.h: see args.h.
#pragma once
#include <stdint.h>

// Positions in an order that is free: how many lie in each half of a box, from the largest boxes to single points.
struct MixingPoints {
  uint32_t *points;        // (n, 3) by rising Morton code in each group; read or written
  int64_t n, n_groups;
  const int64_t *groups;   // (n_groups) sizes, each at least 1
  int64_t bits;            // of a coordinate, 1 to 32
  uint32_t *boxes[2];      // (n, 3) each, the corners of boxes
  int32_t *counts[2];      // (n) each, the points in them
  int32_t *lefts;          // (n) the points in a box's first half
  int32_t *owners[2];      // (n) each, the groups of boxes
  int32_t *slots;          // (n_slots) a hash table of boxes, a power of two of at least 2 n
  int64_t n_slots;
  uint64_t seed;           // of the hashes
  int32_t *errors;         // (256) 2^8 times the mean error of a count's prediction
  int64_t decisions;
};

// Which earlier rows lie nearby: a grid of cells, in which the last rows of each cell are looked at.
struct SplatPlaces {
  const uint32_t *places; // (n, 3)
  int64_t n, shift;       // places are in cells of 2^shift
  int32_t *slots;         // (n_slots) the last row of a cell, at first -1; a power of two of at least 2 n
  int64_t n_slots;
  uint64_t seed;          // of the hashes
  int32_t *previous;      // (n) the row before in the same cell, -1
  int32_t *rows;          // (n, 8) earlier rows by distance; -1: none
  int32_t *weights;       // (n, 8) 1 to 256: how near they are
  int32_t *far;           // (n) a class of the distance of the nearest: 0 to 31
};

// Columns of Gaussians whose positions both sides know: of each row, after what is known of it and of rows nearby.
struct MixingColumns {
  int32_t *values;         // (n, width) unsigned numbers
  int64_t n, width, first, last; // the columns from `first` to `last` are coded; those before are known
  const int32_t *bits;     // (width) of each: values are 0 to 2^bits - 1, up to 32 bits
  const int32_t *kind;     // (width) SPLAT_NUMBER, ...
  const int32_t *links;    // (width, 3) columns before it that tell about it; -1: none
  const int32_t *prior;    // (width) the column, known, that is this one earlier; -1: none
  const int32_t *rows, *weights, *far; // of SplatPlaces
  const int32_t *known;    // of each column that has it, (2^bits + 1): how many of the values below occur at all
  const int64_t *known_at; // (width) where in it; -1: any value may occur
  // What is learned beside the mixer.
  int32_t *errors; // (width, 4, 16) 2^8 times the mean error of predictions, by how far neighbours differ
  int32_t *slopes; // (width, 16) 2^16 times the weight of what corrects a prediction
  uint32_t *seen;  // (2^seen_bits / 32) a bit for each beginning of a vector that was coded
  int64_t seen_bits, seen_left; // seen_left: how many more are noted
  int32_t *turns; // (n, 4) rotations of the rows so far; in units of 2^-15.5
  const int64_t *ready; // rows that another thread has made known; null: all
  int64_t *done;        // rows that are coded
};
