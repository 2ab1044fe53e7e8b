// The scan as in public C runtimes: step by step, states in memory, no tiles, no chunks. A baseline
// for bench_scan.py, which compiles it with -O3 -ffast-math and a constant N.

#include <math.h>
#include <stdint.h>

// y_t = <h_t, C_t>, h_t = exp(delta_t A) h_(t-1) + delta_t u_t B_t, delta through softplus.
// Step by step: u, delta, y (steps, channels), B, C (steps, N). A and h (channels, N), h zero at
// first. Channels from `first` to before `last`: one thread's share.
void loop_scan(const float *u, const float *delta, const float *A, const float *B, const float *C,
               float *h, float *y, int64_t steps, int64_t channels, int64_t first, int64_t last) {
  for (int64_t t = 0; t < steps; t++) {
    const float *b = B + t * N, *c = C + t * N;
    for (int64_t d = first; d < last; d++) {
      const float raw = delta[t * channels + d];
      const float step = raw > 20 ? raw : log1pf(expf(raw));
      const float x = step * u[t * channels + d], *a = A + d * N;
      float *state = h + d * N, sum = 0;
      for (int n = 0; n < N; n++) {
        state[n] = expf(step * a[n]) * state[n] + x * b[n];
        sum += state[n] * c[n];
      }
      y[t * channels + d] = sum;
    }
  }
}
