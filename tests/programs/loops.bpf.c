/* Loops whose ends are not plain, as the kernel's programs have them. */
#include "duckbpf.h"

LICENSE("MIT");

/* Rounds of the Collatz sequence: 27 has 111, more than a function's loops may make. */
static __noinline __u64 rounds(__u64 number)
{
	__u64 rounds = 0;

	while (number > 1 && can_loop) {
		number = number & 1 ? 3 * number + 1 : number / 2;
		rounds++;
	}
	return rounds;
}

SEC("duckdb/load")
__u64 loops(struct duckbpf_load_ctx *ctx)
{
	__u64 all = rounds(ctx->block_id), more = 0;

	/* Each call of a function counts anew, its loops together. */
	for (;; all++)
		cond_break;
	for (;; all += 1000000)
		cond_break;
	{
		loop_budget(7);

		while (can_loop)
			more++;
	}
	return all + 1000 * more;
}
