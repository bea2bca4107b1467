/* Two generations of life on a torus of 32 by 32 bits. */
#include "common.h"

static __u32 world[32];

PROGRAM(life)
{
	__u32 next[32], alive = 0;
	for (int generation = 0; generation < 2; generation++) {
		for (__u32 y = 0; y < 32; y++) {
			__u32 up = world[(y + 31) & 31], row = world[y], down = world[(y + 1) & 31], new = 0;
			for (__u32 x = 0; x < 32; x++) {
				__u32 l = (x + 31) & 31, r = (x + 1) & 31;
				__u32 n = (up >> l & 1) + (up >> x & 1) + (up >> r & 1) + (row >> l & 1) + (row >> r & 1);
				n += (down >> l & 1) + (down >> x & 1) + (down >> r & 1);
				if (n == 3 || (n == 2 && row >> x & 1))
					new |= 1u << x;
			}
			next[y] = new;
		}
		for (__u32 y = 0; y < 32; y++)
			world[y] = next[y];
	}
	for (__u32 y = 0; y < 32; y++)
		for (__u32 x = 0; x < 32; x++)
			alive += world[y] >> x & 1;
	if (alive == 0)
		world[ctx->pool & 31] = ctx->n_tasks;
	results[13] = alive;
	return alive;
}
