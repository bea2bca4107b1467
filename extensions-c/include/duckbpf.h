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
 *   SEC("duckdb/<hook>")   a program for that hook: hash, schedule_task, execute_forever, load, update_used_memory,
 *                          allocate_new_block, unpin. One object may hold one program each for several hooks; they share
 *                          its global variables and are attached together or not at all.
 *   SEC("?duckdb/<hook>")  the same, but checked only, not attached.
 *
 * Global variables are shared by all programs of the object and by all threads: change them with __sync_fetch_and_add() and
 * its fellows. `const volatile` ones are read-only. Variables begin anew at every load. A hash program may only read constants.
 *
 * Not yet: maps, loops, variable offsets, pointers passed through memory. See rust-runtime/src/verifier/mod.rs.
 */
#ifndef DUCKBPF_AUTHOR_H
#define DUCKBPF_AUTHOR_H

#include "duckbpf/hooks.h"

#define SEC(name) __attribute__((section(name), used))
#define __always_inline inline __attribute__((always_inline))
#define __noinline __attribute__((noinline))

/* Recorded in the object, for whoever reads it. */
#define LICENSE(name) char duckbpf_license[] SEC("license") = name

/* The header that the object was built against. An object of another version is refused at load. */
static const __u32 duckbpf_abi_version SEC(".duckbpf.abi") = DUCKBPF_ABI_VERSION;

/* --- helpers. Numbers are Linux' where the meaning is the same. --------------------------------------------------- */

/* Nanoseconds of CLOCK_MONOTONIC. Some 20 ns a call. Hooks: all but hash. */
static __u64 (*const bpf_ktime_get_ns)(void) __attribute__((unused)) = (void *)5;

/* The calling thread's small number, as origin.thread_index. Hooks: all but hash. */
static __u32 (*const bpf_get_smp_processor_id)(void) __attribute__((unused)) = (void *)8;

/* Nanoseconds since the calling thread's query began; 0 when the thread works for none that is known. Hooks: all but hash. */
static __u64 (*const duckbpf_query_age_ns)(void) __attribute__((unused)) = (void *)0x10001;

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
