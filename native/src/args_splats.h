// The structures of splats.h: see args.h.
#pragma once
#include <stdint.h>

// The Gaussians of a scene and a camera, and their ellipses in its image; the gradients of both.
struct SplatScene {
  const float *means, *quaternions, *scales, *opacities, *harmonics; // (n, 3), (n, 4), (n, 3), (n), (n, coefficients, 3)
  float *means2d, *conics, *colours, *depths, *reach;                // (n, 2), (n, 3), (n, 3), (n), (n, 2)
  int32_t *radii;                                                    // (n): 0 for what isn't seen
  const float *v_means2d, *v_conics, *v_colours;                     // gradients of the ellipses, for those of the rest
  float *v_means, *v_quaternions, *v_scales, *v_harmonics;
  int64_t n, coefficients, degree, width, height;
  float view[12];      // rows of the world-to-camera matrix
  float centre[3];     // of the camera
  float intrinsics[4]; // fx, fy, cx, cy
};

// Ellipses and their image; the gradients of both.
struct SplatPicture {
  const float *means2d, *conics, *colours, *opacities, *depths, *reach;
  const int32_t *radii;
  float *image, *light;               // (height, width, 3), (height, width): the light that is left
  int32_t *last;                      // (height, width): the last of its tile's list that a pixel has; or NULL
  const float *v_image, *v_light;     // (height, width, 3), (height, width)
  float *v_means2d, *v_conics, *v_colours, *v_opacities;
  int64_t n, width, height;
  int64_t room; // pairs of an ellipse and a tile that are listed at a time, if one row of tiles doesn't need more
  float background[3];
};
