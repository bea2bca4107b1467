/* Multiplies matrices of 8 by 8 from a buffer and eliminates below the diagonal, modulo a prime. */
#include "common.h"

#define P 65521u

PROGRAM(matrix)
{
	struct buffer *b = buffer(ctx->pool);
	__u32 product[8][8], determinant = 1;
	if (!b)
		return 0;
	for (int i = 0; i < 8; i++)
		for (int j = 0; j < 8; j++) {
			__u64 sum = 0;
			for (int k = 0; k < 8; k++)
				sum += (b->words[8 * i + k] & 0xffff) * (b->words[8 * k + j] & 0xffff);
			product[i][j] = sum % P;
		}
	for (int c = 0; c < 8; c++) {
		__u32 pivot = product[c][c];
		determinant = (__u64)determinant * pivot % P;
		if (pivot == 0)
			break;
		for (int r = 0; r < 8; r++) {
			__u32 factor = product[r][c];
			if (r <= c || factor == 0)
				continue;
			for (int k = 0; k < 8; k++)
				product[r][k] = ((__u64)product[r][k] * pivot + (__u64)(P - factor) * product[c][k]) % P;
		}
	}
	for (int i = 0; i < 8; i++)
		for (int j = 0; j < 8; j++)
			b->words[8 * i + j] = product[i][j];
	results[15] = determinant;
	return determinant;
}
