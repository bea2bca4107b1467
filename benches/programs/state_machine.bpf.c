/* A protocol's state machine over a buffer, with retries, timeouts and a counter for each pair of states. */
#include "common.h"

enum { IDLE, OPENING, OPEN, SENDING, CLOSING, FAILED, STATES };

static __u32 changes[8][8];

PROGRAM(state_machine)
{
	struct buffer *b = buffer(ctx->pool);
	__u32 state, retries = 0, sent = 0, waited = 0;
	if (!b)
		return 0;
	state = b->kind;
	if (state >= STATES)
		state = FAILED;
	for (__u32 i = 0; i < 128; i++) {
		__u8 event = b->bytes[i] & 15, next = state;
		switch (state) {
		case IDLE:
			if (event == 1)
				next = OPENING;
			break;
		case OPENING:
			if (event == 2)
				next = OPEN;
			else if (event == 3 && ++retries > 3)
				next = FAILED;
			else if (++waited > 20)
				next = IDLE;
			break;
		case OPEN:
			if (event == 4)
				next = SENDING;
			else if (event == 5)
				next = CLOSING;
			break;
		case SENDING:
			sent += event;
			if (event == 0)
				next = OPEN;
			else if (event == 3)
				next = ++retries > 3 ? FAILED : OPENING;
			break;
		case CLOSING:
			next = event == 6 ? IDLE : ++waited > 40 ? FAILED : CLOSING;
			break;
		case FAILED:
			if (event == 7) {
				next = IDLE;
				retries = waited = 0;
			}
			break;
		}
		if (next != state)
			changes[state & 7][next & 7]++;
		state = next;
	}
	b->kind = state;
	for (int i = 0; i < 8; i++) {
		__u64 sum = 0;
		for (int k = 0; k < 8; k++)
			sum += changes[i][k];
		results[i] = sum;
	}
	return sent > ctx->queue_length;
}
