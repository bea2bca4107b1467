/* Finds repeats in a buffer as LZ77 does, with a table of the last places of three bytes, and writes what is left. */
#include "common.h"

PROGRAM(lz)
{
	struct buffer *from = buffer(0), *to = buffer(1);
	__u8 last[64] = {};
	__u32 out = 0, literals = 0, matches = 0;
	if (!from || !to)
		return 0;
	for (__u32 i = 0; i < 200; i++) {
		__u32 three = from->bytes[i] | from->bytes[i + 1] << 8 | from->bytes[i + 2] << 16;
		__u32 slot = three * 2654435761u >> 26, before = last[slot];
		__u32 length = 0;
		last[slot] = i;
		if (before && before < i)
			for (; length < 16; length++)
				if (from->bytes[(before + length) & 255] != from->bytes[(i + length) & 255])
					break;
		if (length >= 3) {
			if (out < BYTES - 2) {
				to->bytes[out] = 0x80 | length;
				to->bytes[out + 1] = i - before;
			}
			out += 2;
			matches++;
		} else {
			if (out < BYTES)
				to->bytes[out] = from->bytes[i] & 0x7f;
			out++;
			literals++;
		}
	}
	to->used = out;
	results[14] = (__u64)matches << 32 | literals;
	return out < 200 + ctx->n_tasks;
}
