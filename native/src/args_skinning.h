// The structure of skinning.h: see args.h.
#pragma once
#include <stdint.h>

// Skins that follow joints.
struct SkinWarp {
  const double *matrices;              // (n_joints, 12): the rows of [A | t]
  const int64_t *anchors;              // (n, n_near): joints
  const double *weights;               // (n, n_near)
  const double *positions, *rotations; // (n, 3), (n, 4): of the base frame
  double *moved, *turned;              // (n, 3), (n, 4)
  int64_t n, n_near, n_joints;
};
