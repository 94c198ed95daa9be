// A kernel that says what the loader got: tests call it on every instruction set.

// out[i] = a[2i] b[2i] + a[2i+1] b[2i+1] for n rising in steps of L.
int probe_madd(const int16_t *a, const int16_t *b, int32_t *out, int64_t n) {
  if (n % L) return CODEC_BAD_CALL;
  parallel(n / L, [&](int64_t i, int) { store(out + i * L, madd(i32v{}, load<i16v>(a + 2 * i * L), load<i16v>(b + 2 * i * L))); });
  return CODEC_OK;
}

int probe_lanes() { return L; }
