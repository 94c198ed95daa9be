// The structures of mixing_tracks.h: see args.h.
#pragma once
#include <stdint.h>

const int TRACK_KINDS = 9; // attributes, at most

// An attribute of tracks. A number has two coders, an index into a codebook one.
struct TrackKind {
  MixingCoder *small, *large;
  int64_t first, width; // its columns
  int64_t bits;         // of an index; 0: numbers
};

// What a decoder of tracks knows of n Gaussians, and the coders that it reads.
struct TrackFrame {
  MixingCoder *any, *flag;
  TrackKind kinds[TRACK_KINDS];
  int64_t n, n_kinds, n_columns;
  int64_t *age, *busy;       // (n)
  int64_t *age_of, *busy_of; // (n_kinds, n)
  int64_t *last_mask, *mask; // (n)
  int64_t *step, *last, *now; // (n, n_columns)
};
