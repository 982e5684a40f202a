// SPDX-License-Identifier: GPL-2.0-only
/*
 * What all workloads share: sizes and times as people write them, the clock, a random number generator, memory areas,
 * and JSON lines on stdout. A workload tells the truth about itself; it knows nothing of who watches it.
 *
 * Every workload is killed when whoever started it dies, so that no test leaves gigabytes behind.
 */
#ifndef WORKLOAD_H
#define WORKLOAD_H

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096ULL
#define CHUNK (512 * PAGE)
#define NS_PER_S 1000000000ULL

#ifndef PR_SET_VMA /* Linux 5.17 */
#define PR_SET_VMA 0x53564d41
#define PR_SET_VMA_ANON_NAME 0
#endif

static volatile sig_atomic_t stop_requested;

static inline void request_stop(int signal_number)
{
	(void)signal_number;
	stop_requested = 1;
}

__attribute__((noreturn, format(printf, 1, 2))) static inline void die(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	exit(2);
}

/* One JSON line, out at once. */
__attribute__((format(printf, 1, 2))) static inline void say(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	putchar('\n');
	fflush(stdout);
}

/* SIGTERM and SIGINT end the work in good order, with the closing line; the death of the parent ends it at once. */
static inline void begin(void)
{
	struct sigaction action = {.sa_handler = request_stop};

	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGINT, &action, NULL);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
}

static inline uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

/* Returns at once if that time has passed; early at a signal. */
static inline void sleep_until(uint64_t when_ns)
{
	struct timespec when = {.tv_sec = (time_t)(when_ns / NS_PER_S), .tv_nsec = (long)(when_ns % NS_PER_S)};

	clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &when, NULL);
}

struct unit {
	const char *name;
	double scale;
};

static inline double parse_scaled(const char *text, const struct unit *units, const char *expected)
{
	char *rest;
	double number = strtod(text, &rest);

	if (rest != text && number >= 0)
		for (const struct unit *unit = units; unit->name; unit++)
			if (strcmp(rest, unit->name) == 0)
				return number * unit->scale;
	die("expected %s, got '%s'", expected, text);
}

/* Bytes of "4K", "1.5GiB", "4096". */
static inline uint64_t parse_size(const char *text)
{
	static const struct unit units[] = {
		{"", 1}, {"B", 1}, {"K", 1 << 10}, {"KiB", 1 << 10}, {"M", 1 << 20}, {"MiB", 1 << 20},
		{"G", 1 << 30}, {"GiB", 1 << 30}, {NULL, 0},
	};

	return (uint64_t)parse_scaled(text, units, "a size such as 4K or 1.5GiB");
}

/* Nanoseconds of "10ms", "2s". */
static inline uint64_t parse_time_ns(const char *text)
{
	static const struct unit units[] = {{"us", 1e3}, {"ms", 1e6}, {"s", 1e9}, {"m", 60e9}, {NULL, 0}};

	return (uint64_t)parse_scaled(text, units, "a time such as 10ms or 2s");
}

/* Fraction of 1 of "10%". */
static inline double parse_share(const char *text)
{
	static const struct unit units[] = {{"%", 0.01}, {NULL, 0}};

	return parse_scaled(text, units, "a share such as 10%");
}

static inline uint64_t parse_count(const char *text)
{
	char *rest;
	unsigned long long count = strtoull(text, &rest, 10);

	if (rest == text || *rest)
		die("expected a whole number, got '%s'", text);
	return count;
}

/* The value of option --NAME, for loops over "--name value" pairs. */
static inline const char *option_value(char **argv, int index)
{
	if (!argv[index + 1])
		die("%s wants a value", argv[index]);
	return argv[index + 1];
}

/* splitmix64: a good 64-bit mix of any number, and with x += ODD a generator. */
static inline uint64_t mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15ULL;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
	return x ^ (x >> 31);
}

static inline uint64_t next_random(uint64_t *state)
{
	*state += 0x9e3779b97f4a7c15ULL;
	return mix(*state);
}

/* Below the limit, without a division. The limit must fit 32 bits. */
static inline uint64_t random_below(uint64_t *state, uint64_t limit)
{
	return ((next_random(state) >> 32) * limit) >> 32;
}

static inline uint64_t page_count(uint64_t bytes)
{
	return (bytes + PAGE - 1) / PAGE;
}

/* Shows as [anon:NAME] in /proc/PID/maps, where the kernel has CONFIG_ANON_VMA_NAME. */
static inline void name_area(void *start, uint64_t bytes, const char *name)
{
	prctl(PR_SET_VMA, PR_SET_VMA_ANON_NAME, start, bytes, name);
}

/* Private anonymous memory of small pages, not yet populated: its truth is page by page, whatever the THP policy. */
static inline char *map_small_pages(uint64_t bytes, const char *name)
{
	char *start = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (start == MAP_FAILED)
		die("cannot map %llu bytes: %s", (unsigned long long)bytes, strerror(errno));
	madvise(start, bytes, MADV_NOHUGEPAGE);
	name_area(start, bytes, name);
	return start;
}

#endif
