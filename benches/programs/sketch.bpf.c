/* A count-min sketch of four rows over a buffer's words, with the heaviest word. */
#include "common.h"

static __u32 rows[4][256];

PROGRAM(sketch)
{
	static const __u64 seeds[4] = {0x9e3779b97f4a7c15, 0xbf58476d1ce4e5b9, 0x94d049bb133111eb, 0xd6e8feb86659fd93};
	struct buffer *b = buffer(ctx->pool);
	__u64 heaviest = 0, most = 0;
	if (!b)
		return 0;
	for (int i = 0; i < WORDS; i++) {
		__u64 word = b->words[i];
		__u32 least = ~0U;
		for (int k = 0; k < 4; k++) {
			__u64 h = (word ^ word >> 32) * seeds[k];
			__u32 slot = h >> 56;
			__u32 count = __sync_fetch_and_add(&rows[k][slot], 1);
			if (count < least)
				least = count;
		}
		if (least > most) {
			most = least;
			heaviest = word;
		}
	}
	for (int k = 0; k < 4; k++) {
		__u32 full = 0;
		for (int i = 0; i < 256; i++)
			full += rows[k][i] > 1000;
		if (full > 128)
			for (int i = 0; i < 256; i++)
				rows[k][i] >>= 1;
		results[k] = full;
	}
	results[7] = heaviest;
	return most;
}
