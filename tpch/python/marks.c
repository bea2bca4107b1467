/* Tells callgrind what to count: instructions.py calls begin and end around a query, after start, once: whenever callgrind begins to look it
 * translates all code anew. And takes chance out of what is counted: it
 * is loaded ahead of the C library, so that DuckDB, which reorders filters by the time that they take and by throwing dice, has a
 * clock that moves by the same step at every look and dice that always fall alike. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdarg.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <valgrind/callgrind.h>

void start(void)
{
	CALLGRIND_START_INSTRUMENTATION;
}

void begin(void)
{
	CALLGRIND_ZERO_STATS;
}

void end(const char *name)
{
	CALLGRIND_DUMP_STATS_AT(name);
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
	static const long STEP_NS = 1000, SECOND_NS = 1000000000;
	static long looks;
	const long ns = __atomic_add_fetch(&looks, 1, __ATOMIC_RELAXED) * STEP_NS;
	int (*real)(clockid_t, struct timespec *) = dlsym(RTLD_NEXT, "clock_gettime");
	static struct timespec began[16];
	if ((unsigned)clock >= sizeof(began) / sizeof(*began))
		return real(clock, now);
	if (!began[clock].tv_sec && real(clock, &began[clock]))
		return -1;
	now->tv_sec = began[clock].tv_sec + (began[clock].tv_nsec + ns) / SECOND_NS;
	now->tv_nsec = (began[clock].tv_nsec + ns) % SECOND_NS;
	return 0;
}

long syscall(long number, ...)
{
	long (*real)(long, ...) = dlsym(RTLD_NEXT, "syscall");
	va_list list;
	long arguments[6];
	va_start(list, number);
	for (int i = 0; i < 6; i++)
		arguments[i] = va_arg(list, long);
	va_end(list);
	if (number == SYS_getrandom) {
		memset((void *)arguments[0], 42, arguments[1]);
		return arguments[1];
	}
	return real(number, arguments[0], arguments[1], arguments[2], arguments[3], arguments[4], arguments[5]);
}
