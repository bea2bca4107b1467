/* Finds runs of free bits in a bitmap of 64 words, takes one of the wanted length, and counts what is left. */
#include "common.h"

PROGRAM(bitmap)
{
	struct buffer *b = buffer(ctx->pool);
	__u32 wanted = ctx->n_tasks & 31, run = 0, start = 0, found = 0, best = 0, free = 0;
	if (!b)
		return 0;
	for (__u32 i = 0; i < 24 && !found; i++) {
		__u64 word = b->words[i];
		for (__u32 k = 0; k < 64; k++) {
			if (word >> k & 1) {
				run = 0;
				continue;
			}
			if (run++ == 0)
				start = 64 * i + k;
			if (run > best)
				best = run;
			if (run > wanted) {
				found = 1;
				break;
			}
		}
	}
	if (found)
		for (__u32 k = 0; k < 32; k++) {
			__u32 bit = start + k;
			if (k > wanted || bit >= 64 * WORDS)
				break;
			b->words[bit / 64] |= 1ULL << (bit & 63);
		}
	for (__u32 i = 0; i < WORDS; i++) {
		__u64 x = ~b->words[i];
		x = x - (x >> 1 & 0x5555555555555555);
		x = (x & 0x3333333333333333) + (x >> 2 & 0x3333333333333333);
		x = (x + (x >> 4)) & 0x0f0f0f0f0f0f0f0f;
		free += x * 0x0101010101010101 >> 56;
	}
	results[11] = free;
	return found ? start : best;
}
