/* By instructions, in the families of the kernel's own tests of its verifier: what clang would rarely write. */
#include "kernel.h"

#define __naked __attribute__((naked))

struct value {
	__u64 numbers[6];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16);
	__type(key, __u64);
	__type(value, struct value);
} hash48 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 4096);
} ring SEC(".maps");

#define PROGRAM(name, text)                                                                                                    \
	SEC("syscall")                                                                                                         \
	__naked int name(struct input *ctx)                                                                                    \
	{                                                                                                                      \
		asm volatile(text ::[lookup] "i"(bpf_map_lookup_elem), [update] "i"(bpf_map_update_elem),                      \
			     [random] "i"(bpf_get_prandom_u32), [time] "i"(bpf_ktime_get_ns), [hash48] "i"(&hash48),           \
			     [ring] "i"(&ring), [reserve] "i"(bpf_ringbuf_reserve), [submit] "i"(bpf_ringbuf_submit),          \
			     [discard] "i"(bpf_ringbuf_discard), [output] "i"(bpf_ringbuf_output));                            \
	}

/* r0 is a value of 48 bytes, r6 the context. */
#define LOOKUP                                                                                                                 \
	"r6 = r1; r1 = 0; *(u64 *)(r10 - 8) = r1; r2 = r10; r2 += -8; r1 = %[hash48] ll; call %[lookup];"                      \
	"if r0 == 0 goto out%=;"
#define OUT "out%=: r0 = 0; exit;"

/* Bounds from comparisons. */
PROGRAM(ok_unsigned_below, LOOKUP "r1 = *(u64 *)(r6 + 0); if r1 > 40 goto out%=; r0 += r1; r2 = *(u8 *)(r0 + 7);" OUT)
PROGRAM(bad_out_of_bounds__unsigned_below_by_one,
	LOOKUP "r1 = *(u64 *)(r6 + 0); if r1 > 41 goto out%=; r0 += r1; r2 = *(u8 *)(r0 + 7);" OUT)
PROGRAM(bad_pointer_offset__signed_without_a_lower_bound,
	LOOKUP "r1 = *(u64 *)(r6 + 0); if r1 s> 40 goto out%=; r0 += r1; r2 = *(u8 *)(r0 + 0);" OUT)
PROGRAM(ok_signed_with_both_bounds,
	LOOKUP "r1 = *(u64 *)(r6 + 0); if r1 s> 40 goto out%=; if r1 s< 0 goto out%=; r0 += r1; r2 = *(u8 *)(r0 + 0);" OUT)
PROGRAM(bad_out_of_bounds__signed_with_minus_one,
	LOOKUP "r1 = *(u64 *)(r6 + 0); if r1 s> 40 goto out%=; if r1 s< -1 goto out%=; r0 += r1; r2 = *(u8 *)(r0 + 0);" OUT)
PROGRAM(ok_minus_one_moved_back,
	LOOKUP "r1 = *(u64 *)(r6 + 0); if r1 s> 40 goto out%=; if r1 s< -1 goto out%=; r1 += 1; r0 += r1; r2 = *(u8 *)(r0 + 0);" OUT)
PROGRAM(ok_equal_to_a_constant, LOOKUP "r1 = *(u64 *)(r6 + 0); if r1 != 47 goto out%=; r0 += r1; r2 = *(u8 *)(r0 + 0);" OUT)
PROGRAM(bad_out_of_bounds__equal_to_a_constant,
	LOOKUP "r1 = *(u64 *)(r6 + 0); if r1 != 48 goto out%=; r0 += r1; r2 = *(u8 *)(r0 + 0);" OUT)
PROGRAM(bad_pointer_offset__not_equal, LOOKUP "r1 = *(u64 *)(r6 + 0); if r1 == 47 goto out%=; r0 += r1; r2 = *(u8 *)(r0 + 0);" OUT)
PROGRAM(ok_unequal_to_the_end_of_a_range,
	LOOKUP "r1 = *(u64 *)(r6 + 0); if r1 > 48 goto out%=; if r1 == 48 goto out%=; r0 += r1; r2 = *(u8 *)(r0 + 0);" OUT)
PROGRAM(ok_less_than_a_bounded_register,
	LOOKUP "r1 = *(u64 *)(r6 + 0); r2 = *(u64 *)(r6 + 8); r2 &= 31; if r1 >= r2 goto out%=; r0 += r1; r2 = *(u8 *)(r0 + 17);" OUT)
PROGRAM(bad_out_of_bounds__less_than_a_bounded_register,
	LOOKUP "r1 = *(u64 *)(r6 + 0); r2 = *(u64 *)(r6 + 8); r2 &= 31; if r1 >= r2 goto out%=; r0 += r1; r2 = *(u8 *)(r0 + 18);" OUT)
PROGRAM(ok_copies_are_bounded_together,
	LOOKUP "r1 = *(u64 *)(r6 + 0); r2 = r1; if r2 > 40 goto out%=; r0 += r1; r2 = *(u8 *)(r0 + 0);" OUT)
PROGRAM(bad_pointer_offset__copy_that_was_changed,
	LOOKUP "r1 = *(u64 *)(r6 + 0); r2 = r1; r1 *= 2; if r2 > 20 goto out%=; r0 += r1; r1 = *(u64 *)(r6 + 0); r0 += r1;"
	       "r2 = *(u8 *)(r0 + 0);" OUT)
PROGRAM(ok_copy_plus_a_constant, LOOKUP "r1 = *(u32 *)(r6 + 0); r2 = r1; r2 += 4; if r2 > 40 goto out%=; r0 += r1; r2 = *(u8 *)(r0 + 0);" OUT)
PROGRAM(ok_difference_of_bounds,
	LOOKUP "r1 = *(u64 *)(r6 + 0); if r1 > 50 goto out%=; if r1 < 10 goto out%=; r1 -= 10; r0 += r1; r2 = *(u8 *)(r0 + 7);" OUT)
PROGRAM(bad_out_of_bounds__difference_of_bounds,
	LOOKUP "r1 = *(u64 *)(r6 + 0); if r1 > 50 goto out%=; if r1 < 9 goto out%=; r1 -= 10; r0 += r1; r2 = *(u8 *)(r0 + 0);" OUT)

/* Masks, shifts, or, exclusive or. */
PROGRAM(ok_and_with_a_mask, LOOKUP "r1 = *(u64 *)(r6 + 0); r1 &= 32; r0 += r1; r2 = *(u64 *)(r0 + 8);" OUT)
PROGRAM(bad_out_of_bounds__and_with_a_mask, LOOKUP "r1 = *(u64 *)(r6 + 0); r1 &= 47; r0 += r1; r2 = *(u64 *)(r0 + 0);" OUT)
PROGRAM(bad_pointer_offset__and_with_a_negative_mask, LOOKUP "r1 = *(u64 *)(r6 + 0); r1 &= -4; r0 += r1; r2 = *(u8 *)(r0 + 0);" OUT)
PROGRAM(ok_or_of_masks, LOOKUP "r1 = *(u64 *)(r6 + 0); r1 &= 8; r2 = *(u64 *)(r6 + 8); r2 &= 3; r1 |= r2; r0 += r1; r2 = *(u8 *)(r0 + 36);" OUT)
PROGRAM(bad_out_of_bounds__or_of_masks,
	LOOKUP "r1 = *(u64 *)(r6 + 0); r1 &= 8; r2 = *(u64 *)(r6 + 8); r2 &= 3; r1 |= r2; r0 += r1; r2 = *(u8 *)(r0 + 37);" OUT)
PROGRAM(ok_exclusive_or, LOOKUP "r1 = *(u64 *)(r6 + 0); r1 &= 31; r1 ^= 15; r0 += r1; r2 = *(u8 *)(r0 + 16);" OUT)
PROGRAM(bad_out_of_bounds__exclusive_or, LOOKUP "r1 = *(u64 *)(r6 + 0); r1 &= 31; r1 ^= 32; r0 += r1; r2 = *(u8 *)(r0 + 0);" OUT)
PROGRAM(ok_shift_right, LOOKUP "r1 = *(u64 *)(r6 + 0); r1 >>= 59; r0 += r1; r2 = *(u64 *)(r0 + 8);" OUT)
PROGRAM(bad_out_of_bounds__shift_right, LOOKUP "r1 = *(u64 *)(r6 + 0); r1 >>= 58; r0 += r1; r2 = *(u8 *)(r0 + 0);" OUT)
PROGRAM(bad_out_of_bounds__arithmetic_shift, LOOKUP "r1 = *(u64 *)(r6 + 0); r1 s>>= 59; r0 += r1; r2 = *(u64 *)(r0 + 8);" OUT)
PROGRAM(ok_shift_left_of_a_byte, LOOKUP "r1 = *(u8 *)(r6 + 0); r1 &= 7; r1 <<= 2; r0 += r1; r2 = *(u32 *)(r0 + 16);" OUT)
PROGRAM(ok_there_and_back_by_32, LOOKUP "r1 = *(u64 *)(r6 + 0); r1 <<= 32; r1 >>= 60; r0 += r1; r2 = *(u8 *)(r0 + 32);" OUT)
PROGRAM(bad_out_of_bounds__there_and_back_signed, LOOKUP "r1 = *(u64 *)(r6 + 0); r1 <<= 32; r1 s>>= 60; r0 += r1; r2 = *(u8 *)(r0 + 7);" OUT)

/* Tests of bits. */
PROGRAM(ok_bit_is_not_set, LOOKUP "r1 = *(u64 *)(r6 + 0); if r1 & -32 goto out%=; r0 += r1; r2 = *(u8 *)(r0 + 16);" OUT)
PROGRAM(bad_pointer_offset__bit_is_set, LOOKUP "r1 = *(u64 *)(r6 + 0); if r1 & 1 goto on%=; goto out%=; on%=: r0 += r1; r2 = *(u8 *)(r0 + 0);" OUT)
PROGRAM(ok_bit_of_32, LOOKUP "r1 = *(u32 *)(r6 + 0); if w1 & -16 goto out%=; r0 += r1; r2 = *(u8 *)(r0 + 32);" OUT)

/* 32 bits. */
PROGRAM(ok_compare_of_32_bits, LOOKUP "r1 = *(u32 *)(r6 + 0); if w1 > 40 goto out%=; r0 += r1; r2 = *(u8 *)(r0 + 7);" OUT)
PROGRAM(bad_pointer_offset__compare_of_32_bits_says_nothing_of_64,
	LOOKUP "r1 = *(u64 *)(r6 + 0); if w1 > 40 goto out%=; r0 += r1; r2 = *(u8 *)(r0 + 0);" OUT)
PROGRAM(ok_compare_of_32_bits_and_cut, LOOKUP "r1 = *(u64 *)(r6 + 0); w1 = w1; if w1 > 40 goto out%=; r0 += r1; r2 = *(u8 *)(r0 + 7);" OUT)
PROGRAM(ok_compared_first_and_cut_then, LOOKUP "r1 = *(u64 *)(r6 + 0); if w1 > 40 goto out%=; w1 = w1; r0 += r1; r2 = *(u8 *)(r0 + 7);" OUT)
PROGRAM(ok_signed_compare_of_32_bits,
	LOOKUP "r1 = *(u32 *)(r6 + 0); if w1 s> 40 goto out%=; if w1 s< 0 goto out%=; r0 += r1; r2 = *(u8 *)(r0 + 7);" OUT)
PROGRAM(bad_pointer_offset__signed_compare_of_32_bits, LOOKUP "r1 = *(u32 *)(r6 + 0); if w1 s> 40 goto out%=; r0 += r1; r2 = *(u8 *)(r0 + 7);" OUT)
PROGRAM(ok_sum_of_32_bits_wraps, LOOKUP "w1 = -1; w1 += 2; r0 += r1; r2 = *(u8 *)(r0 + 46);" OUT)
PROGRAM(bad_pointer_offset__sum_of_64_bits_does_not, LOOKUP "w1 = -1; r1 += 2; r0 += r1; r2 = *(u8 *)(r0 + 46);" OUT)
PROGRAM(ok_difference_of_32_bits, LOOKUP "w1 = 5; w1 -= 3; r0 += r1; r2 = *(u8 *)(r0 + 45);" OUT)
/* The kernel does not know that a random number has 32 bits. */
PROGRAM(ours_upper_half_is_zero, LOOKUP "call %[random]; r7 = r0; r7 >>= 32; if r7 != 0 goto bad%=; goto out%=; bad%=: r1 = *(u64 *)(r7 + 0);" OUT)
PROGRAM(ok_negation_of_32_bits, LOOKUP "w1 = -5; w1 = -w1; r0 += r1; r2 = *(u8 *)(r0 + 42);" OUT)
PROGRAM(ok_move_of_32_bits, LOOKUP "r1 = 0x100000004 ll; w1 = w1; r0 += r1; r2 = *(u8 *)(r0 + 43);" OUT)
PROGRAM(ok_byte_swap_of_16, LOOKUP "r1 = *(u64 *)(r6 + 0); r1 = be16 r1; r1 >>= 11; r0 += r1; r2 = *(u8 *)(r0 + 16);" OUT)

/* Spills. */
PROGRAM(ok_spilled_number_keeps_its_bounds,
	LOOKUP "r1 = *(u64 *)(r6 + 0); if r1 > 40 goto out%=; *(u64 *)(r10 - 16) = r1; r2 = *(u64 *)(r10 - 16); r0 += r2; r2 = *(u8 *)(r0 + 7);" OUT)
PROGRAM(ok_spilled_number_is_bounded_with_its_register,
	LOOKUP "r1 = *(u64 *)(r6 + 0); *(u64 *)(r10 - 16) = r1; if r1 > 40 goto out%=; r2 = *(u64 *)(r10 - 16); r0 += r2; r2 = *(u8 *)(r0 + 7);" OUT)
PROGRAM(ok_lower_half_of_a_spilled_number,
	LOOKUP "r1 = *(u32 *)(r6 + 0); if r1 > 40 goto out%=; *(u64 *)(r10 - 16) = r1; r2 = *(u32 *)(r10 - 16); r0 += r2; r2 = *(u8 *)(r0 + 7);" OUT)
PROGRAM(ok_spill_of_32_bits,
	LOOKUP "r1 = *(u32 *)(r6 + 0); if r1 > 40 goto out%=; *(u32 *)(r10 - 16) = r1; r2 = *(u32 *)(r10 - 16); r0 += r2; r2 = *(u8 *)(r0 + 7);" OUT)
PROGRAM(bad_pointer_offset__spill_that_was_overwritten_in_part,
	LOOKUP "r1 = *(u64 *)(r6 + 0); if r1 > 40 goto out%=; *(u64 *)(r10 - 16) = r1; *(u8 *)(r10 - 12) = r1; r2 = *(u64 *)(r10 - 16);"
	       "r0 += r2; r2 = *(u8 *)(r0 + 7);" OUT)
PROGRAM(ok_spilled_pointer, LOOKUP "*(u64 *)(r10 - 16) = r0; r1 = *(u64 *)(r10 - 16); r2 = *(u64 *)(r1 + 40);" OUT)
PROGRAM(ok_spilled_pointer_is_checked_through_its_register,
	"r1 = 0; *(u64 *)(r10 - 8) = r1; r2 = r10; r2 += -8; r1 = %[hash48] ll; call %[lookup]; *(u64 *)(r10 - 16) = r0;"
	"if r0 == 0 goto out%=; r1 = *(u64 *)(r10 - 16); r2 = *(u64 *)(r1 + 40);" OUT)
PROGRAM(bad_not_a_pointer__spilled_pointer_that_was_overwritten,
	LOOKUP "*(u64 *)(r10 - 16) = r0; r2 = 0; *(u64 *)(r10 - 16) = r2; r1 = *(u64 *)(r10 - 16); r2 = *(u64 *)(r1 + 40);" OUT)
PROGRAM(bad_stack_pointer_corrupted__byte_of_a_spilled_pointer, LOOKUP "*(u64 *)(r10 - 16) = r0; r2 = 0; *(u8 *)(r10 - 13) = r2;" OUT)
/* The kernel forgets the first zero with the second. */
PROGRAM(ours_constant_zero_of_bytes,
	LOOKUP "r1 = 0; *(u32 *)(r10 - 16) = r1; *(u32 *)(r10 - 12) = r1; r2 = *(u64 *)(r10 - 16); r0 += r2; r2 = *(u64 *)(r0 + 40);" OUT)

/* Stack at variable offsets. */
PROGRAM(ok_variable_read_of_written_stack,
	"r2 = 0; *(u64 *)(r10 - 8) = r2; *(u64 *)(r10 - 16) = r2; r2 = *(u64 *)(r1 + 0); r2 &= 8; r2 -= 16; r3 = r10; r3 += r2; r0 = *(u64 *)(r3 + 0); r0 = 0; exit;")
/* The kernel refuses it without CAP_PERFMON too, but for the sake of Spectre, before it looks. */
PROGRAM(theirs_stack_uninitialised__variable_read,
	"r2 = 0; *(u64 *)(r10 - 8) = r2; r2 = *(u64 *)(r1 + 0); r2 &= 8; r2 -= 16; r3 = r10; r3 += r2; r0 = *(u64 *)(r3 + 0); r0 = 0; exit;")
PROGRAM(ok_variable_write,
	"r2 = *(u64 *)(r1 + 0); r2 &= 8; r2 -= 16; r3 = r10; r3 += r2; r0 = 0; *(u64 *)(r3 + 0) = r0; exit;")
PROGRAM(bad_stack_bounds__variable_write,
	"r2 = *(u64 *)(r1 + 0); r2 &= 8; r2 -= 516; r3 = r10; r3 += r2; r0 = 0; *(u8 *)(r3 + 0) = r0; exit;")
PROGRAM(bad_pointer_offset__variable_write_without_bound,
	"r2 = *(u64 *)(r1 + 0); r3 = r10; r3 += r2; r0 = 0; *(u8 *)(r3 + 0) = r0; exit;")
PROGRAM(bad_stack_bounds__above_the_frame, "r2 = 0; *(u64 *)(r10 + 0) = r2; r0 = 0; exit;")
PROGRAM(bad_misaligned__stack_at_odd_offset, "r2 = 0; *(u64 *)(r10 - 12) = r2; r0 = 0; exit;")
PROGRAM(bad_stack_uninitialised__half, "r2 = 0; *(u32 *)(r10 - 8) = r2; r0 = *(u64 *)(r10 - 8); exit;")

/* Values that may be null. */
PROGRAM(bad_maybe_null__of_a_lookup, "r1 = 0; *(u64 *)(r10 - 8) = r1; r2 = r10; r2 += -8; r1 = %[hash48] ll; call %[lookup]; r1 = *(u64 *)(r0 + 0);" OUT)
PROGRAM(bad_maybe_null__arithmetic_first,
	"r1 = 0; *(u64 *)(r10 - 8) = r1; r2 = r10; r2 += -8; r1 = %[hash48] ll; call %[lookup]; r0 += 8; if r0 == 0 goto out%=; r1 = *(u64 *)(r0 + 0);" OUT)
PROGRAM(bad_pointer_comparison__greater_than_null,
	"r1 = 0; *(u64 *)(r10 - 8) = r1; r2 = r10; r2 += -8; r1 = %[hash48] ll; call %[lookup]; if r0 > 0 goto on%=; goto out%=; on%=: r1 = *(u64 *)(r0 + 0);" OUT)

/* Nothing leaves. */
PROGRAM(bad_pointer_leak__stack_as_result, "r0 = r10; exit;")
PROGRAM(bad_pointer_leak__map_as_result, "r0 = %[hash48] ll; exit;")
PROGRAM(bad_pointer_leak__into_a_value, LOOKUP "*(u64 *)(r0 + 0) = r10;" OUT)
PROGRAM(bad_pointer_leak__by_addition, LOOKUP "r2 = 1; lock *(u64 *)(r0 + 0) += r6;" OUT)
PROGRAM(bad_pointer_comparison__with_a_number, "if r10 > 100 goto out%=; r0 = 1; exit;" OUT)
PROGRAM(bad_pointer_leak__negated, "r2 = r10; r2 = -r2; r0 = 0; exit;")
PROGRAM(bad_pointer_leak__swapped, "r2 = r10; r2 = bswap64 r2; r0 = 0; exit;")
PROGRAM(bad_pointer_arithmetic__sum_of_two, "r2 = r10; r2 += r1; r0 = 0; exit;")

/* Division. */
PROGRAM(ok_division_by_zero_in_a_register, "r0 = *(u64 *)(r1 + 0); r2 = 0; r0 /= r2; r0 %%= r2; w0 /= w2; w0 %%= w2; exit;")
PROGRAM(ok_signed_division, "r0 = *(u64 *)(r1 + 0); r2 = -1; r0 s/= r2; r0 s%%= r2; exit;")

/* Atomics. */
PROGRAM(ok_atomics_on_a_value,
	LOOKUP "r1 = 1; lock *(u64 *)(r0 + 0) += r1; lock *(u64 *)(r0 + 8) |= r1; lock *(u64 *)(r0 + 16) &= r1; lock *(u64 *)(r0 + 24) ^= r1;"
	       "r2 = 1; r2 = atomic_fetch_add((u64 *)(r0 + 32), r2); r2 = xchg_64(r0 + 40, r2);" OUT)
PROGRAM(bad_out_of_bounds__atomic, LOOKUP "r1 = 1; lock *(u64 *)(r0 + 48) += r1;" OUT)
PROGRAM(bad_uninitialised_register__atomic, LOOKUP "lock *(u64 *)(r0 + 0) += r1;" OUT)
PROGRAM(bad_context_write__atomic, "r2 = 1; lock *(u64 *)(r1 + 0) += r2; r0 = 0; exit;")

/* Loads and moves with a sign. */
PROGRAM(ok_signed_load, LOOKUP "r1 = *(s8 *)(r6 + 0); if r1 s< 0 goto out%=; if r1 s> 40 goto out%=; r0 += r1; r2 = *(u8 *)(r0 + 0);" OUT)
PROGRAM(bad_out_of_bounds__signed_load, LOOKUP "r1 = *(s8 *)(r6 + 0); if r1 s> 40 goto out%=; r0 += r1; r2 = *(u8 *)(r0 + 0);" OUT)
PROGRAM(ok_signed_move, LOOKUP "r1 = *(u64 *)(r6 + 0); r1 = (s8)r1; r1 += 128; r1 >>= 3; r0 += r1; r2 = *(u8 *)(r0 + 16);" OUT)
PROGRAM(bad_out_of_bounds__signed_move, LOOKUP "r1 = *(u64 *)(r6 + 0); r1 = (s8)r1; r0 += r1; r2 = *(u8 *)(r0 + 0);" OUT)
PROGRAM(ok_signed_move_of_32, LOOKUP "r1 = *(u64 *)(r6 + 0); w1 = (s16)w1; w1 &= 31; r0 += r1; r2 = *(u8 *)(r0 + 16);" OUT)
PROGRAM(ok_long_jump, "r0 = 0; gotol on%=; on%=: exit;")
PROGRAM(bad_pointer_leak__signed_move_of_a_pointer, "r2 = (s32)r10; r0 = 0; exit;")

/* Shapes. */
PROGRAM(bad_unreachable_code__behind_an_exit, "r0 = 0; exit; r0 = 1; exit;")
PROGRAM(bad_uninitialised_register__result, "exit;")
PROGRAM(bad_uninitialised_register__on_one_way, "r2 = *(u64 *)(r1 + 0); if r2 == 0 goto on%=; r0 = 0; on%=: exit;")
PROGRAM(ok_way_that_cannot_be, "r2 = 1; if r2 == 1 goto out%=; r0 = *(u64 *)(r2 + 0); exit;" OUT)
PROGRAM(ok_way_that_a_mask_rules_out, "r2 = *(u64 *)(r1 + 0); r2 &= 7; if r2 <= 7 goto out%=; r0 = *(u64 *)(r2 + 0); exit;" OUT)
PROGRAM(bad_uninitialised_register__lost_in_a_call, "r2 = 1; r6 = r1; call %[time]; r0 = r2; exit;")
PROGRAM(ok_kept_over_a_call, "r6 = r1; r7 = 3; call %[time]; r0 = r7; r1 = *(u64 *)(r6 + 0); exit;")

/* Loops. */
/* Without CAP_PERFMON the kernel runs into its limits in these two, which does not count. */
PROGRAM(ok_loop_to_a_constant, "r0 = 0; again%=: r0 += 1; if r0 < 100 goto again%=; exit;")
PROGRAM(ok_loop_to_a_checked_number,
	"r2 = *(u64 *)(r1 + 0); r0 = 0; if r2 > 100 goto out%=; again%=: if r0 >= r2 goto out%=; r0 += 1; goto again%=;" OUT)
PROGRAM(bad_infinite_loop__of_one_jump, "r0 = *(u64 *)(r1 + 0); again%=: if r0 == 0 goto again%=; exit;")
PROGRAM(ok_loop_over_a_value, LOOKUP "r1 = 0; again%=: r2 = r0; r2 += r1; r3 = *(u8 *)(r2 + 0); r1 += 1; if r1 != 48 goto again%=;" OUT)
PROGRAM(bad_out_of_bounds__loop_over_a_value,
	LOOKUP "r1 = 0; again%=: r2 = r0; r2 += r1; r3 = *(u8 *)(r2 + 0); r1 += 1; if r1 != 49 goto again%=;" OUT)

/* Records. */
#define RESERVE "r6 = r1; r1 = %[ring] ll; r2 = 16; r3 = 0; call %[reserve]; if r0 == 0 goto out%=;"
#define SUBMIT "r1 = r0; r2 = 0; call %[submit];"
PROGRAM(ok_record, RESERVE "r1 = 0; *(u64 *)(r0 + 8) = r1;" SUBMIT OUT)
PROGRAM(bad_unreleased__record, RESERVE OUT)
PROGRAM(bad_out_of_bounds__record_by_one, RESERVE "r1 = 0; *(u8 *)(r0 + 16) = r1;" SUBMIT OUT)
PROGRAM(bad_uninitialised_register__released_twice, RESERVE "r7 = r0;" SUBMIT "r1 = r7; r2 = 0; call %[submit];" OUT)
PROGRAM(bad_helper_argument__released_from_the_middle, RESERVE "r1 = r0; r1 += 8; r2 = 0; call %[submit];" OUT)
PROGRAM(ok_record_kept_on_the_stack, RESERVE "*(u64 *)(r10 - 8) = r0; call %[time]; r1 = *(u64 *)(r10 - 8); r2 = 0; call %[discard];" OUT)
PROGRAM(bad_helper_argument__value_is_no_record, LOOKUP "r1 = r0; r2 = 0; call %[submit];" OUT)

/* Sizes of what helpers read. */
PROGRAM(ok_size_from_a_mask,
	"r2 = 0; *(u64 *)(r10 - 8) = r2; *(u64 *)(r10 - 16) = r2; r3 = *(u64 *)(r1 + 0); r3 &= 15; r1 = %[ring] ll; r2 = r10; r2 += -16; r4 = 0;"
	"call %[output]; r0 = 0; exit;")
PROGRAM(bad_stack_uninitialised__size_from_a_mask,
	"r2 = 0; *(u64 *)(r10 - 16) = r2; r3 = *(u64 *)(r1 + 0); r3 &= 15; r1 = %[ring] ll; r2 = r10; r2 += -16; r4 = 0; call %[output]; r0 = 0; exit;")
PROGRAM(bad_helper_size__negative, "r2 = 0; *(u64 *)(r10 - 8) = r2; r3 = -1; r1 = %[ring] ll; r2 = r10; r2 += -8; r4 = 0; call %[output]; r0 = 0; exit;")
PROGRAM(bad_stack_bounds__size_beyond, "r2 = 0; *(u64 *)(r10 - 8) = r2; r3 = 9; r1 = %[ring] ll; r2 = r10; r2 += -8; r4 = 0; call %[output]; r0 = 0; exit;")

/* Contexts. */
PROGRAM(ok_narrow_loads, "r0 = *(u8 *)(r1 + 3); r2 = *(u16 *)(r1 + 6); r0 += r2; exit;")
/* The kernel wants its context unmoved, as it rewrites accesses to others. */
PROGRAM(ours_moved_context, "r1 += 8; r0 = *(u64 *)(r1 + 8); exit;")
PROGRAM(ok_context_over_a_call, "r6 = r1; call %[random]; r1 = *(u64 *)(r6 + 0); r0 = 0; exit;")
