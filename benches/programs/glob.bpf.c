/* Matches the name in one buffer with 4 patterns of another that hold * and ?. */
#include "common.h"

PROGRAM(glob)
{
	struct buffer *names = buffer(0), *patterns = buffer(1);
	__u32 matched = 0;
	if (!names || !patterns)
		return 0;
	for (__u32 n = 0; n < 4; n++) {
		__u32 at = 0, p = 0, star = 64, mark = 0;
		for (int i = 0; i < 48; i++) {
			__u8 c = names->bytes[at & 31], want = patterns->bytes[32 * n + (p & 31)];
			if (!c) {
				if (want == '*') {
					p++;
					continue;
				}
				if (!want)
					matched |= 1 << n;
				break;
			}
			if (want == '*') {
				star = p++;
				mark = at;
			} else if (want == '?' || want == c) {
				p++;
				at++;
			} else if (star < 64) {
				p = star + 1;
				at = ++mark;
			} else {
				break;
			}
		}
	}
	results[10] = matched;
	for (__u32 n = 0; n < 4; n++)
		if (matched >> n & 1) {
			__u64 key = n, *count = bpf_map_lookup_elem(&counts, &key);
			if (count)
				__sync_fetch_and_add(count, 1);
		}
	return (matched & (matched - 1)) > ctx->queue_length;
}
