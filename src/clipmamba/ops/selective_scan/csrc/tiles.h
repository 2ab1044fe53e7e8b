// Between tensors in memory and tiles: one vector of W neighboring channels per step.
#pragma once

#include "args.h"

template <class E>
INLINE E *at(const View &v, int64_t b, int64_t g, int64_t row, int64_t step) {
  return (E *)v.data + b * v.batch + g * v.group + row * v.row + step * v.step;
}

template <class E>
static void load_tile(const E *p, int64_t row, int64_t step, int rows, int nt, vf *RESTRICT tile) {
  int t = 0;
  if (rows == W && step == 1) {
    for (; t + W <= nt; t += W) {
      vf r[W];
      UNROLL for (int i = 0; i < W; i++) r[i] = load(p + i * row + t);
      transpose(r);
      UNROLL for (int i = 0; i < W; i++) tile[t + i] = r[i];
    }
  } else if (rows == W && row == 1) {
    for (; t < nt; t++) tile[t] = load(p + t * step);
  }
  for (; t < nt; t++) {
    vf v = {};
    for (int i = 0; i < rows; i++) v[i] = load1(p + i * row + t * step);
    tile[t] = v;
  }
}

// How to store to memory: plainly, added to what is there, or past the caches.
enum Put { SET, ADD, STREAM };
template <Put PUT, class E>
INLINE void put(E *p, vf v) {
  if constexpr (PUT == STREAM)
    stream(p, v);
  else
    store(p, PUT == ADD ? load(p) + v : v);
}
template <Put PUT, class E>
INLINE void put1(E *p, float v) {
  store1(p, PUT == ADD ? load1(p) + v : v);
}

template <Put PUT, class E>
static void store_tile(E *p, int64_t row, int64_t step, int rows, int nt, const vf *RESTRICT tile) {
  int t = 0;
  if (rows == W && step == 1) {
    for (; t + W <= nt; t += W) {
      vf r[W];
      UNROLL for (int i = 0; i < W; i++) r[i] = tile[t + i];
      transpose(r);
      UNROLL for (int i = 0; i < W; i++) put<PUT>(p + i * row + t, r[i]);
    }
  } else if (rows == W && row == 1) {
    for (; t < nt; t++) put<PUT>(p + t * step, tile[t]);
  }
  for (; t < nt; t++)
    for (int i = 0; i < rows; i++) put1<PUT>(p + i * row + t * step, tile[t][i]);
}

// Columns of a picture, each from its top: tile[j * height + y] for `columns` of them. `line` is the
// stride from one row of pixels to the next, `step` that from one column to the next.
template <class E>
static void load_columns(const E *p, int64_t row, int64_t line, int64_t step, int rows,
                         int64_t height, int columns, vf *RESTRICT tile) {
  for (int64_t y = 0; y < height; y++, p += line) {
    int j = 0;
    if (rows == W && step == 1) {
      for (; j + W <= columns; j += W) {
        vf r[W];
        UNROLL for (int i = 0; i < W; i++) r[i] = load(p + i * row + j);
        transpose(r);
        UNROLL for (int i = 0; i < W; i++) tile[(j + i) * height + y] = r[i];
      }
    } else if (rows == W && row == 1) {
      for (; j < columns; j++) tile[j * height + y] = load(p + j * step);
    }
    for (; j < columns; j++) {
      vf v = {};
      for (int i = 0; i < rows; i++) v[i] = load1(p + i * row + j * step);
      tile[j * height + y] = v;
    }
  }
}

template <Put PUT, class E>
static void store_columns(E *p, int64_t row, int64_t line, int64_t step, int rows, int64_t height,
                          int columns, const vf *RESTRICT tile) {
  for (int64_t y = 0; y < height; y++, p += line) {
    int j = 0;
    if (rows == W && step == 1) {
      for (; j + W <= columns; j += W) {
        vf r[W];
        UNROLL for (int i = 0; i < W; i++) r[i] = tile[(j + i) * height + y];
        transpose(r);
        UNROLL for (int i = 0; i < W; i++) put<PUT>(p + i * row + j, r[i]);
      }
    } else if (rows == W && row == 1) {
      for (; j < columns; j++) put<PUT>(p + j * step, tile[j * height + y]);
    }
    for (; j < columns; j++)
      for (int i = 0; i < rows; i++)
        put1<PUT>(p + i * row + j * step, tile[j * height + y][i]);
  }
}

static void reverse(vf *tile, int64_t nt) {
  for (int64_t i = 0, j = nt - 1; i < j; i++, j--) {
    const vf v = tile[i];
    tile[i] = tile[j];
    tile[j] = v;
  }
}

// Where a block of channels lies: batch b, group g, first row in the group, how many rows.
struct Block {
  int64_t b, g, row;
  int rows;
};

static void load_tile(const View &v, Block at_, int64_t t0, int64_t nt, vf *tile) {
  if (v.is_bf16)
    load_tile(at<bf16>(v, at_.b, at_.g, at_.row, t0), v.row, v.step, at_.rows, nt, tile);
  else
    load_tile(at<float>(v, at_.b, at_.g, at_.row, t0), v.row, v.step, at_.rows, nt, tile);
}
// A result too large to stay in the caches is stored past them: otherwise each line would first be
// read.
INLINE bool beyond_caches(const Args &a) {
  return sizeof(float) * a.batch * a.groups * a.rows * a.steps >= 8 << 20;
}
static void store_tile(const Args &a, const View &v, Block at_, int64_t t0, int64_t nt,
                       const vf *tile) {
  if (v.is_bf16) {
    bf16 *p = at<bf16>(v, at_.b, at_.g, at_.row, t0);
    return store_tile<SET>(p, v.row, v.step, at_.rows, nt, tile);
  }
  float *p = at<float>(v, at_.b, at_.g, at_.row, t0);
  const bool whole_lines = (uintptr_t)p % sizeof(vf) == 0 && v.row % W == 0;
  if (beyond_caches(a) && whole_lines && at_.rows == W && v.step == 1)
    store_tile<STREAM>(p, v.row, v.step, at_.rows, nt, tile);
  else
    store_tile<SET>(p, v.row, v.step, at_.rows, nt, tile);
}

// B or C of one segment as floats, the states of a step side by side, so that a loop over the steps
// needs one pointer for all states in registers. More than W states are stored in blocks of W.
// B and C of a call have the same width and room.
struct Steps {
  float *data;
  int64_t width, room;  // floats of a step; steps of a block
  float *state(int64_t n) const { return data + n / W * W * room + n % W; }
  Steps from(int64_t t) const { return {data + t * width, width, room}; }
};
template <class E>
static void load_steps(const View &v, int64_t b, int64_t g, int64_t states, int64_t t0, int nt,
                       Steps to) {
  if (states < W) {
    const E *p = at<E>(v, b, g, 0, t0);
    for (int t = 0; t < nt; t++)
      for (int64_t n = 0; n < states; n++)
        to.data[t * to.width + n] = load1(p + n * v.row + t * v.step);
  } else {
    for (int64_t n = 0; n < states; n += W)
      load_tile(at<E>(v, b, g, n, t0), v.row, v.step, (int)min_(W, states - n), nt,
                (vf *)to.state(n));
  }
}
static void load_steps(const View &v, int64_t b, int64_t g, int64_t states, int64_t t0, int64_t nt,
                       Steps to) {
  if (v.is_bf16)
    load_steps<bf16>(v, b, g, states, t0, (int)nt, to);
  else
    load_steps<float>(v, b, g, states, t0, (int)nt, to);
}

static vf load_lanes(const float *p, int64_t stride, int rows) {
  vf v = {};
  if (p)
    for (int i = 0; i < rows; i++) v[i] = p[i * stride];
  return v;
}
static void store_lanes(float *p, int64_t stride, int rows, vf v) {
  for (int i = 0; i < rows; i++) p[i * stride] = v[i];
}
