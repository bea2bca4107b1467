/* SipHash-2-4 of every eight words of a buffer, and of all. */
#include "common.h"

#define ROUND                                                                                                                  \
	do {                                                                                                                   \
		v0 += v1, v1 = rotate(v1, 13) ^ v0, v0 = rotate(v0, 32);                                                       \
		v2 += v3, v3 = rotate(v3, 16) ^ v2;                                                                            \
		v0 += v3, v3 = rotate(v3, 21) ^ v0;                                                                            \
		v2 += v1, v1 = rotate(v1, 17) ^ v2, v2 = rotate(v2, 32);                                                       \
	} while (0)

PROGRAM(siphash)
{
	struct buffer *b = buffer(ctx->pool);
	__u64 all = 0;
	if (!b)
		return 0;
	for (int part = 0; part < WORDS / 8; part++) {
		__u64 v0 = ctx->n_tasks ^ 0x736f6d6570736575, v1 = ctx->queue_length ^ 0x646f72616e646f6d;
		__u64 v2 = ctx->n_tasks ^ 0x6c7967656e657261, v3 = ctx->queue_length ^ 0x7465646279746573;
		for (int i = 0; i < 8; i++) {
			__u64 m = b->words[8 * part + i];
			v3 ^= m;
			ROUND;
			ROUND;
			v0 ^= m;
		}
		v2 ^= 0xff;
		ROUND;
		ROUND;
		ROUND;
		ROUND;
		results[part] = v0 ^ v1 ^ v2 ^ v3;
		all = rotate(all, 7) + results[part];
		if (all % 16 == 3) {
			__u64 *count = bpf_map_lookup_elem(&counts, &all);
			if (count)
				__sync_fetch_and_add(count, 1);
		}
	}
	return all >> 63;
}
