/* duckbpf.h: everything a program for DuckDB includes.
 *
 *     #include "duckbpf.h"
 *
 *     LICENSE("MIT");
 *
 *     SEC("duckdb/load")
 *     __u64 keep_small(struct duckbpf_load_ctx *ctx)
 *     {
 *         return DUCKBPF_LOAD(ctx->size < 4096 ? DUCKBPF_HINT_KEEP : DUCKBPF_HINT_NORMAL);
 *     }
 *
 * Compile:  clang-19 -target bpf -mcpu=v4 -O2 -g -I extensions-c/include -I hook-shim/include -c keep_small.bpf.c
 * Attach:   SET hook_program = 'keep_small.bpf.o';
 *
 * The hooks, what each context holds and what may be decided: duckbpf/hooks.h.
 *
 * Sections
 *   SEC("duckdb/<hook>")   a program for that hook. One object may hold one program each for several hooks; they share its
 *                          global variables and are attached together or not at all.
 *   SEC("?duckdb/<hook>")  the same, but checked only, not attached.
 *
 * Global variables are shared by all programs of the object and by all threads: change them with __sync_fetch_and_add() and
 * its fellows. `const volatile` ones are read-only. Variables begin anew at every load. A hash program may only read constants.
 *
 * What is accepted: rust-runtime/src/verifier/mod.rs.
 */
#ifndef DUCKBPF_AUTHOR_H
#define DUCKBPF_AUTHOR_H

#include "duckbpf/helpers.h"
#include "duckbpf/hooks.h"

#define SEC(name) __attribute__((section(name), used))
#define __always_inline inline __attribute__((always_inline))
#define __noinline __attribute__((noinline))

/* Recorded in the object, for whoever reads it. */
#define LICENSE(name) char duckbpf_license[] SEC("license") = name

/* The header that the object was built against. An object of another version is refused at load. */
static const __u32 duckbpf_abi_version SEC(".duckbpf.abi") = DUCKBPF_ABI_VERSION;

/* --- maps ----------------------------------------------------------------------------------------------------------
 *
 *     struct {
 *             __uint(type, BPF_MAP_TYPE_HASH);
 *             __uint(max_entries, 1024);
 *             __type(key, __u32);
 *             __type(value, struct counts);
 *     } sizes SEC(".maps");
 *
 * As libbpf has it. Compile with -g: the types are what says how SQL shows keys and values. All is preallocated.
 * A ringbuf's max_entries are bytes, and its __type(value, ...) is the type of its records. A reload keeps what a map holds when its
 * layout is the same. */
#define __uint(name, n) int(*name)[n]
#define __type(name, t) __typeof__(t) *name
#define __array(name, t) __typeof__(t) *name[]

/* Shared by all objects that declare the map so, and kept when they are detached. */
#define LIBBPF_PIN_BY_NAME 1

/* map_flags. Maps are preallocated, also those that need not be. */
#define BPF_F_NO_PREALLOC (1U << 0)
/* This object's programs only read, or only write the map. */
#define BPF_F_RDONLY_PROG (1U << 7)
#define BPF_F_WRONLY_PROG (1U << 8)
/* flags of updates */
#define BPF_ANY 0
#define BPF_NOEXIST 1
#define BPF_EXIST 2
/* flags of duckbpf_block_storage_get */
#define BPF_LOCAL_STORAGE_GET_F_CREATE 1
/* what bpf_ringbuf_query tells */
#define BPF_RB_AVAIL_DATA 0
#define BPF_RB_RING_SIZE 1
#define BPF_RB_CONS_POS 2
#define BPF_RB_PROD_POS 3

/* --- helpers: duckbpf/helpers.h -------------------------------------------------------------------------------------- */

/* A line in DuckDB's log, with up to three numbers: bpf_printk("size %llu of query %llu", ctx->size, ctx->origin.query_id) */
#define bpf_printk(format, ...) __duckbpf_printk(format, ##__VA_ARGS__, 0, 0, 0)
#define __duckbpf_printk(format, a, b, c, ...)                                                                                 \
	({                                                                                                                     \
		static const char __duckbpf_format[] = format;                                                                 \
		bpf_trace_printk(__duckbpf_format, sizeof(__duckbpf_format), (__u64)(a), (__u64)(b), (__u64)(c));              \
	})

/* i, which is declared before, goes from begin up to, but not including, end. */
#define bpf_for(i, begin, end)                                                                                                 \
	for (__typeof__(i) __duckbpf_i = (begin), __duckbpf_end = (end); __duckbpf_i < __duckbpf_end && ((i) = __duckbpf_i, 1);    \
	     __duckbpf_i++)

/* A loop whose end is not plain from its counter: while (next(&state) && can_loop) { ... }
 * All loops of a function together go round at most LOOP_BUDGET times, from where the function begins; define it before the header is
 * included where that is too few or, as all rounds count against the hook's ceiling, too many. The count lies in the lowest eight of a
 * function's 512 bytes of stack; the loader sets it to 0. The kernel's cond_break is if (!can_loop) break;
 * loop_budget(1000); gives the loops of the block that declares it a budget of their own. */
#ifndef LOOP_BUDGET
#define LOOP_BUDGET 100
#endif
#define loop_budget(n)                                                                                                         \
	enum { __duckbpf_has_budget = 1 };                                                                                     \
	__u32 __duckbpf_budget = (n)
#define can_loop (__duckbpf_has_budget ? __duckbpf_budget-- != 0 : __duckbpf_rounds() <= LOOP_BUDGET)
#define cond_break                                                                                                             \
	if (!can_loop)                                                                                                         \
	break

/* Outside of blocks that declare a budget. */
enum { __duckbpf_has_budget = 0 };
extern __u32 __duckbpf_budget;

/* The loader knows these three instructions. */
#define __duckbpf_rounds()                                                                                                     \
	({                                                                                                                     \
		__u64 __duckbpf_round;                                                                                         \
		asm volatile("%0 = *(u64 *)(r10 - 512)\n\t%0 += 1\n\t*(u64 *)(r10 - 512) = %0" : "=r"(__duckbpf_round));         \
		__duckbpf_round;                                                                                               \
	})

/* --- hash programs declare two constants ---------------------------------------------------------------------------
 *
 *     const volatile __u64 hash_types = DUCKBPF_TYPE_BIT(DUCKBPF_TYPE_INT32) | DUCKBPF_TYPE_BIT(DUCKBPF_TYPE_INT64);
 *     const volatile __u32 hash_mixed = 1;
 *
 * hash_types: the types of keys that the program takes, all when it is absent. Other types are hashed as stock does.
 * hash_mixed: 1 when the program's output is well mixed in all its bits, so that the host need not mix it. It is believed
 * only if the output passes a test at attach. */
#define DUCKBPF_TYPE_BIT(type) (1ULL << (type))
#define DUCKBPF_TYPES_ALL (DUCKBPF_TYPE_BIT(DUCKBPF_TYPE_COUNT) - 1)

#endif
