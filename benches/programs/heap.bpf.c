/* A priority queue in a buffer: pushes eight words and takes the four least. */
#include "common.h"

PROGRAM(heap)
{
	struct buffer *b = buffer(ctx->pool);
	__u64 heap[16] = {}, sum = 0;
	__u32 size = 0;
	if (!b)
		return 0;
	for (int n = 0; n < 8; n++) {
		__u32 at = size++ & 15;
		heap[at] = b->words[n] ^ ctx->n_tasks;
		for (int i = 0; i < 4 && at > 0; i++) {
			__u32 parent = (at - 1) / 2;
			if (heap[parent & 15] <= heap[at & 15])
				break;
			__u64 t = heap[parent & 15];
			heap[parent & 15] = heap[at & 15];
			heap[at & 15] = t;
			at = parent;
		}
	}
	for (int n = 0; n < 4; n++) {
		__u32 at = 0;
		sum += heap[0];
		size--;
		heap[0] = heap[size & 15];
		for (int i = 0; i < 4; i++) {
			__u32 left = 2 * at + 1, right = left + 1, least = at;
			if (left < size && heap[left & 15] < heap[least & 15])
				least = left;
			if (right < size && heap[right & 15] < heap[least & 15])
				least = right;
			if (least == at)
				break;
			__u64 t = heap[at & 15];
			heap[at & 15] = heap[least & 15];
			heap[least & 15] = t;
			at = least;
		}
	}
	results[6] = sum;
	return sum > ctx->queue_length;
}
