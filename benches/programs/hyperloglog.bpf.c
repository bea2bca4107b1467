/* HyperLogLog over a buffer's words: 64 registers, and the harmonic mean in fixed point. */
#include "common.h"

static __u8 registers[64];

PROGRAM(hyperloglog)
{
	struct buffer *b = buffer(ctx->pool);
	__u64 sum = 0;
	__u32 zeros = 0;
	if (!b)
		return 0;
	for (int i = 0; i < WORDS; i++) {
		__u64 h = b->words[i];
		h = (h ^ h >> 33) * 0xff51afd7ed558ccd;
		h = (h ^ h >> 33) * 0xc4ceb9fe1a85ec53;
		h ^= h >> 33;
		__u32 slot = h & 63, rank = 1;
		for (int k = 6; k < 38; k++) {
			if (h >> k & 1)
				break;
			rank++;
		}
		if (registers[slot] < rank)
			registers[slot] = rank;
	}
	for (int i = 0; i < 64; i++) {
		__u32 rank = registers[i];
		if (rank == 0)
			zeros++;
		if (rank < 32)
			sum += 1ULL << (32 - rank);
	}
	results[8] = sum ? (0x2da0000000ULL * 64) / sum : 0;
	for (int i = 0; i < 8; i++)
		for (int k = 0; k < 8; k++)
			if (registers[8 * i + k] > 20)
				results[9] += i ^ k;
	return zeros;
}
