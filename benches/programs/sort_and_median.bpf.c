/* Sorts 16 words of a buffer by insertion, takes the median and the spread, and writes them back. */
#include "common.h"

PROGRAM(sort_and_median)
{
	struct buffer *b = buffer(ctx->pool);
	if (!b)
		return 0;
	for (int i = 1; i < 16; i++) {
		__u64 x = b->words[i];
		int j = i;
		while (j > 0 && b->words[j - 1] > x) {
			b->words[j] = b->words[j - 1];
			j--;
		}
		b->words[j] = x;
	}
	__u64 median = b->words[8], spread = 0, outliers = 0;
	for (int i = 0; i < 16; i++) {
		__u64 d = b->words[i] > median ? b->words[i] - median : median - b->words[i];
		spread += d;
		if (d > 4 * median)
			outliers |= 1 << i;
	}
	for (int i = 0; i < 16; i++) {
		__u64 key = b->words[i], *count = bpf_map_lookup_elem(&counts, &key);
		if (count && outliers >> i & 1)
			__sync_fetch_and_add(count, spread);
		else if (!count)
			bpf_map_update_elem(&counts, &key, &median, BPF_NOEXIST);
	}
	results[4] = median;
	results[5] = spread;
	return outliers != 0;
}
