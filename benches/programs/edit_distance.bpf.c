/* The edit distance between two words of 24 bytes, by rows. */
#include "common.h"

#define LENGTH 24

PROGRAM(edit_distance)
{
	struct buffer *a = buffer(0), *b = buffer(1);
	__u8 row[LENGTH + 1], left, corner;
	if (!a || !b)
		return 0;
	for (__u32 i = 0; i <= LENGTH; i++)
		row[i] = i;
	for (__u32 i = 0; i < LENGTH; i++) {
		corner = row[0];
		row[0] = left = i + 1;
		for (__u32 j = 0; j < LENGTH; j++) {
			__u8 best = corner + (a->bytes[i] != b->bytes[j]);
			if (row[j + 1] + 1 < best)
				best = row[j + 1] + 1;
			if (left + 1 < best)
				best = left + 1;
			corner = row[j + 1];
			row[j + 1] = left = best;
		}
	}
	results[1] = row[LENGTH];
	for (__u32 i = 0; i < LENGTH; i++)
		a->words[i] = row[i] + (__u64)a->bytes[i] * b->bytes[i];
	return row[LENGTH] > ctx->queue_length;
}
