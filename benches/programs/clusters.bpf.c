/* k-means in one dimension: four centres, eight rounds, over a buffer's words. */
#include "common.h"

PROGRAM(clusters)
{
	struct buffer *b = buffer(ctx->pool);
	__u64 centres[4] = {1000, 10000, 100000, 1000000};
	__u32 moved = 0;
	if (!b)
		return 0;
	for (int round = 0; round < 4; round++) {
		__u64 sums[4] = {}, numbers[4] = {};
		for (int i = 0; i < 32; i++) {
			__u64 x = b->words[i], least = ~0ULL;
			__u32 nearest = 0;
			for (int k = 0; k < 4; k++) {
				__u64 d = x > centres[k] ? x - centres[k] : centres[k] - x;
				if (d < least) {
					least = d;
					nearest = k;
				}
			}
			sums[nearest & 3] += x;
			numbers[nearest & 3]++;
		}
		for (int k = 0; k < 4; k++) {
			__u64 centre = numbers[k] ? sums[k] / numbers[k] : centres[k];
			if (centre != centres[k])
				moved++;
			centres[k] = centre;
		}
	}
	for (int k = 0; k < 4; k++)
		results[k] = centres[k];
	return moved;
}
