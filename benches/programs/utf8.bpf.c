/* Validates a buffer as UTF-8, counts characters by length, and computes a CRC-32 with a table made on the way. */
#include "common.h"

static __u32 table[256];

PROGRAM(utf8)
{
	struct buffer *b = buffer(ctx->pool);
	__u32 lengths[4] = {}, wanted = 0, code = 0, errors = 0, crc = ~0U;
	if (!b)
		return 0;
	if (!table[1])
		for (__u32 i = 0; i < 256; i++) {
			__u32 c = i;
			for (int k = 0; k < 8; k++)
				c = c & 1 ? 0xedb88320 ^ c >> 1 : c >> 1;
			table[i] = c;
		}
	for (__u32 i = 0; i < BYTES; i++) {
		__u8 c = b->bytes[i];
		crc = table[(crc ^ c) & 0xff] ^ crc >> 8;
		if (wanted) {
			if ((c & 0xc0) != 0x80) {
				errors++;
				wanted = 0;
				continue;
			}
			code = code << 6 | (c & 0x3f);
			if (--wanted == 0 && (code > 0x10ffff || (code >= 0xd800 && code < 0xe000)))
				errors++;
		} else if (c < 0x80) {
			lengths[0]++;
		} else if (c >> 5 == 6) {
			lengths[1]++;
			wanted = 1;
			code = c & 31;
		} else if (c >> 4 == 14) {
			lengths[2]++;
			wanted = 2;
			code = c & 15;
		} else if (c >> 3 == 30) {
			lengths[3]++;
			wanted = 3;
			code = c & 7;
		} else {
			errors++;
		}
	}
	for (int i = 0; i < 4; i++)
		results[i] = lengths[i];
	return ~crc ^ errors;
}
