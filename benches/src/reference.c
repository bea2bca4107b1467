/* What programs are compared with: compiled twice, as scalar code and for AVX2. */
#include <stddef.h>
#include <stdint.h>

#define JOIN(a, b) a##_##b
#define CALL(a, b) JOIN(a, b)

static uint64_t murmur64(uint64_t x)
{
	x ^= x >> 32;
	x *= 0xd6e8feb86659fd93ULL;
	x ^= x >> 32;
	x *= 0xd6e8feb86659fd93ULL;
	x ^= x >> 32;
	return x;
}

/* DuckDB's hash of integers (common/types/hash.hpp) */
void CALL(murmur, NAME)(const uint64_t *restrict keys, uint64_t *restrict out, size_t count)
{
	for (size_t i = 0; i < count; i++)
		out[i] = murmur64(keys[i]);
}

uint64_t CALL(empty, NAME)(void *context)
{
	(void)context;
	return 0;
}
