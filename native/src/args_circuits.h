// The structures of circuits.h: see args.h.
#pragma once
#include <stdint.h>

// A hidden Chow-Liu tree, and the order in which it is walked through (circuits.h).
struct CircuitTour {
  int64_t n_variables, states, pitch, n_levels, n_operations;
  const int32_t *operations; // (n_operations, 5): kind, variable, level, flags, matrix
  const float *const *leaves; // of each variable: cumulative counts (size + 1, pitch)
  const int32_t *sizes, *guesses; // of each variable: symbols, and the one to try first
  const double *down, *up;        // matrices (pitch, pitch), and the same transposed
  const double *prior;            // (pitch)
};
