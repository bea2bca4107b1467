/* Walks a trie in an array of nodes by the bytes of a buffer, adding nodes that are missing. */
#include "common.h"

struct node {
	__u16 children[8];
	__u32 hits;
};

static struct node nodes[512];
static __u32 used = 1;

PROGRAM(trie)
{
	struct buffer *b = buffer(ctx->pool);
	__u32 total = 0;
	if (!b)
		return 0;
	for (__u32 word = 0; word < 16; word++) {
		__u32 at = 0;
		for (__u32 i = 0; i < 12; i++) {
			__u8 letter = b->bytes[word * 12 + i] & 7;
			__u32 next;
			if (at >= 512)
				break;
			next = nodes[at].children[letter];
			if (!next) {
				next = __sync_fetch_and_add(&used, 1);
				if (next >= 512)
					break;
				nodes[at].children[letter] = next;
			}
			if (next < 512)
				nodes[next].hits++;
			at = next;
			total++;
		}
		if (at < 512 && nodes[at].hits > 10)
			results[word] = at;
	}
	for (__u32 i = 0; i < 512; i++) {
		__u32 children = 0;
		for (__u32 k = 0; k < 8; k++)
			children += nodes[i].children[k] != 0;
		if (children == 8)
			total += nodes[i].hits;
	}
	return total;
}
