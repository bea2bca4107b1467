/* Splits a buffer into names, numbers and strings, and counts each kind and the depth of brackets. */
#include "common.h"

enum { SPACE, NAME, NUMBER, STRING, ESCAPE };

PROGRAM(tokenizer)
{
	struct buffer *b = buffer(ctx->pool);
	__u32 state = SPACE, names = 0, numbers = 0, strings = 0, depth = 0, deepest = 0, errors = 0;
	__u64 number = 0, name = 0;
	if (!b)
		return 0;
	for (__u32 i = 0; i < BYTES; i++) {
		__u8 c = b->bytes[i];
		if (i >= b->used)
			break;
		switch (state) {
		case STRING:
			if (c == '\\')
				state = ESCAPE;
			else if (c == '"') {
				state = SPACE;
				strings++;
			}
			continue;
		case ESCAPE:
			state = STRING;
			continue;
		case NAME:
			if ((c >= 'a' && c <= 'z') || c == '_' || (c >= '0' && c <= '9')) {
				name = name * 31 + c;
				continue;
			}
			names++;
			results[name & 15]++;
			state = SPACE;
			break;
		case NUMBER:
			if (c >= '0' && c <= '9') {
				number = number * 10 + (c - '0');
				continue;
			}
			numbers++;
			results[3] += number;
			state = SPACE;
			break;
		}
		if (c >= '0' && c <= '9') {
			state = NUMBER;
			number = c - '0';
		} else if ((c >= 'a' && c <= 'z') || c == '_') {
			state = NAME;
			name = c;
		} else if (c == '"') {
			state = STRING;
		} else if (c == '{' || c == '[') {
			depth++;
			if (depth > deepest)
				deepest = depth;
		} else if (c == '}' || c == ']') {
			if (depth == 0)
				errors++;
			else
				depth--;
		} else if (c != ' ' && c != ',' && c != ':' && c != '\n') {
			errors++;
		}
	}
	results[0] = names;
	results[1] = numbers;
	results[2] = strings;
	return errors ? deepest : 0;
}
