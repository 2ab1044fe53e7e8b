// Multiply-adds on vectors a second can do, for bench_scan.py's floor: as wide as the processor has.
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

// 12 independent chains: enough to hide the latency. Returns something that depends on all of them.
extern "C" float multiply_add(int64_t rounds, float by) {
  vf x[12], a = vf{} + by, b = vf{} + 1e-7f;
  for (int i = 0; i < 12; i++) x[i] = vf{} + (float)i;
  for (int64_t r = 0; r < rounds; r++) {
#pragma GCC unroll 12
    for (int i = 0; i < 12; i++) x[i] = x[i] * a + b;
    __asm__ volatile("" : : : "memory");
  }
  float sum = 0;
  for (int i = 0; i < 12; i++) sum += x[i][0];
  return sum;
}
