/* A line through the last 64 measurements, in fixed point, and which of them lie far from it. */
#include "common.h"

PROGRAM(regression)
{
	struct buffer *b = buffer(ctx->pool);
	__s64 sx = 0, sy = 0, sxx = 0, sxy = 0, slope = 0, base = 0;
	__u32 far = 0, changes = 0, above = 0;
	if (!b)
		return 0;
	b->words[b->used++ & (WORDS - 1)] = ctx->queue_length << 8;
	for (int i = 0; i < WORDS; i++) {
		__s64 y = b->words[(b->used + i) & (WORDS - 1)];
		sx += i;
		sy += y;
		sxx += i * i;
		sxy += i * y;
	}
	__s64 below = WORDS * sxx - sx * sx;
	if (below > 0) {
		__s64 over = WORDS * sxy - sx * sy;
		slope = over < 0 ? -(__s64)((__u64)-over / below) : (__s64)((__u64)over / below);
		base = (sy - slope * sx) >> 6;
	}
	for (int i = 0; i < WORDS; i++) {
		__s64 d = (__s64)b->words[(b->used + i) & (WORDS - 1)] - (base + slope * i);
		if (d > 1000 || d < -1000)
			far++;
		if ((d > 0) != (above & 1))
			changes++;
		above = above << 1 | (d > 0);
	}
	for (int w = 0; w < 8; w++) {
		__u64 most = 0, least = ~0ULL;
		for (int i = 0; i < 8; i++) {
			__u64 y = b->words[8 * w + i];
			if (y > most)
				most = y;
			if (y < least)
				least = y;
		}
		results[w] = most - least;
	}
	return slope > 0 ? far : changes;
}
