/* Sorts twelve numbers on the stack by bubbles and merges them with twelve sorted ones. */
#include "common.h"

#define N 12

PROGRAM(bubble_sort)
{
	struct buffer *b = buffer(ctx->pool);
	__u32 a[N], merged[2 * N] = {};
	if (!b)
		return 0;
	for (int i = 0; i < N; i++)
		a[i] = b->words[i];
#pragma clang loop unroll(disable)
	for (int i = 0; i < N - 1; i++)
#pragma clang loop unroll(disable)
		for (int j = 0; j < N - 1 - i; j++)
			if (a[j] > a[j + 1]) {
				__u32 t = a[j];
				a[j] = a[j + 1];
				a[j + 1] = t;
			}
	__u32 left = 0, right = 0;
	for (int i = 0; i < 2 * N; i++) {
		if (right >= N || (left < N && a[left] < (__u32)b->words[N + right])) {
			if (left < N)
				merged[i] = a[left++];
		} else {
			merged[i] = b->words[N + right++];
		}
	}
	for (int i = 0; i < 2 * N; i++)
		b->words[2 * N + (i & 31)] = merged[i];
	return merged[0] < merged[2 * N - 1];
}
