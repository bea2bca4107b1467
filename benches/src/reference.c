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

/* An attached hookpoint by hand: a context is filled on the stack, four numbers of whose work it is and seven fields, and somebody called. */
uint64_t CALL(hookpoints, NAME)(uint64_t (*entry)(void *), const uint64_t *from, uint64_t passes)
{
	uint64_t sum = 0;
	while (passes--) {
		uint64_t context[11];
		for (int i = 0; i < 11; i++)
			context[i] = from[i];
		sum += entry(context);
	}
	return sum;
}

/* A detached one: is there anybody to call? */
uint64_t CALL(null_checks, NAME)(uint64_t (*const *gate)(void *), uint64_t passes)
{
	uint64_t sum = 0;
	while (passes--) {
		uint64_t (*entry)(void *) = __atomic_load_n(gate, __ATOMIC_RELAXED);
		if (__builtin_expect(!!entry, 0))
			sum += entry(&sum);
	}
	return sum;
}
