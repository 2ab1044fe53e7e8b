// Vector multiply-adds per second at the processor's full width, for bench_scan.py's floor.
#include <stdint.h>

#if defined(__AVX512F__)
constexpr int W = 16;
#elif defined(__AVX2__)
constexpr int W = 8;
#else
constexpr int W = 4;
#endif
typedef float vf __attribute__((vector_size(4 * W)));

extern "C" int lanes(void) { return W; }

// 12 independent chains hide the latency. Each is a variable, as an array might stay in memory, and
// stores would be timed. The result depends on all of them.
extern "C" float multiply_add(int64_t rounds, float by) {
  const vf a = vf{} + by, b = vf{} + 1e-7f;
  vf x0 = a, x1 = a + 1, x2 = a + 2, x3 = a + 3, x4 = a + 4, x5 = a + 5;
  vf y0 = b, y1 = b + 1, y2 = b + 2, y3 = b + 3, y4 = b + 4, y5 = b + 5;
  for (int64_t r = 0; r < rounds; r++) {
    x0 = x0 * a + b, x1 = x1 * a + b, x2 = x2 * a + b, x3 = x3 * a + b, x4 = x4 * a + b;
    y0 = y0 * a + b, y1 = y1 * a + b, y2 = y2 * a + b, y3 = y3 * a + b, y4 = y4 * a + b;
    x5 = x5 * a + b, y5 = y5 * a + b;
  }
  const vf sum = x0 + x1 + x2 + x3 + x4 + x5 + y0 + y1 + y2 + y3 + y4 + y5;
  return sum[0];
}
