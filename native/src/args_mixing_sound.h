// The structure of mixing_sound.h: see args.h.
#pragma once
#include <stdint.h>

// The quantised spectra of a piece of sound, frame after frame, and what is told beside them.
struct SoundPiece {
  int32_t *angles; // (bands) how the first two channels are turned, 0 ... 31; not told of one channel
  int32_t *shapes; // (frames) a frame is 2^shape blocks, 0 ... 3
  int32_t *filled; // (frames, channels, bands) 1 of bands that hold values
  int32_t *scales; // (frames, channels, bands) of the steps
  int32_t *noises; // (frames, channels, bands) of what fills zeros
  int32_t *values; // (frames, channels, size) block after block
  const int32_t *edges; // (bands + 1) where bands begin and end in a frame of one block, multiples of 8
  int64_t frames, channels, size, bands;
  int64_t level; // of the quality: a context
};
