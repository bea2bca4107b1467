/* 48 bytes of a buffer in base64, and back, with a check. */
#include "common.h"

static const char letters[64] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

static __always_inline int value_of(__u8 c)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	return c == '+' ? 62 : c == '/' ? 63 : -1;
}

PROGRAM(base64)
{
	struct buffer *b = buffer(ctx->pool);
	__u8 coded[64];
	__u32 wrong = 0;
	if (!b)
		return 0;
	for (int i = 0; i < 16; i++) {
		__u32 three = b->bytes[3 * i] << 16 | b->bytes[3 * i + 1] << 8 | b->bytes[3 * i + 2];
		for (int k = 0; k < 4; k++)
			coded[4 * i + k] = letters[three >> (18 - 6 * k) & 63];
	}
	for (int i = 0; i < 16; i++) {
		__u32 three = 0;
		for (int k = 0; k < 4; k++) {
			int v = value_of(coded[4 * i + k]);
			if (v < 0) {
				wrong++;
				v = 0;
			}
			three = three << 6 | v;
		}
		for (int k = 0; k < 3; k++)
			if (b->bytes[3 * i + k] != (__u8)(three >> (16 - 8 * k)))
				wrong++;
	}
	results[2] += wrong;
	return wrong != 0;
}
