// The arguments of a call from Python, in the order of backends/cpu/arguments.py.
#pragma once

#include <stdint.h>

#include "simd.h"

// One tensor seen as (batch, group, row, step), strides in elements.
struct View {
  void *data;  // null: absent
  int64_t is_bf16, batch, group, row, step;
};

struct Args {
  int64_t batch, groups, rows, steps, states;  // rows: channels of one group
  int64_t chunk, chunks;                 // steps per chunk; chunks that `starts` has room for
  int64_t slices, softplus;
  int64_t height, width;                 // of a picture; 0: sequences
  double least;                          // added to every step size
  View u, delta, z, B, C, out;           // B, C: rows are states
  View dout, du, ddelta, dz;             // backward only
  const float *A, *D, *bias;             // (channels, states), (channels), (channels)
  float *starts;                         // (batch, chunks, states, channels), may be null
  const float *first;                    // (batch, channels, states), null: zeros
  float *last;                           // the same
  const float *dlast;                    // the same, may be null
  float *dfirst;                         // the same, may be null
  float *dA, *dD, *dbias;                // (batch, channels, states), (batch, channels) twice
  float *dB, *dC;                        // (slices, batch, groups, states, steps)
};

INLINE int64_t min_(int64_t a, int64_t b) { return a < b ? a : b; }
INLINE int64_t max_(int64_t a, int64_t b) { return a > b ? a : b; }
INLINE int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
