/* A histogram of a buffer's bytes, its quartiles and its mode. */
#include "common.h"

PROGRAM(histogram)
{
	struct buffer *b = buffer(ctx->pool);
	__u32 slots[32] = {}, total = 0, mode = 0, median = 0, lower = 0, upper = 0;
	if (!b)
		return 0;
	for (__u32 i = 0; i < BYTES; i++)
		slots[b->bytes[i] >> 3]++;
	for (__u32 i = 0; i < 32; i++) {
		if (slots[i] > slots[mode & 31])
			mode = i;
		total += slots[i];
		if (total < BYTES / 4)
			lower = i + 1;
		if (total < BYTES / 2)
			median = i + 1;
		if (total < 3 * BYTES / 4)
			upper = i + 1;
	}
	results[0] = mode << 24 | lower << 16 | median << 8 | upper;
	for (__u32 i = 0; i < 32; i++)
		for (__u32 k = 0; k < 4; k++)
			if (slots[i] > 8 * k && b->words[(i + k) & (WORDS - 1)] < total)
				b->words[i] += slots[i] * k;
	return ctx->n_tasks > total;
}
