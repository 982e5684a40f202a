// SPDX-License-Identifier: GPL-2.0-only
/*
 * throughput: random accesses to a hot set inside a large area, as fast as the processor can.
 *
 * For overhead: it counts its operations in slices of wall-clock time, so that slices with and without a monitor can be
 * paired within one run. An operation adds one to a random cache line of the hot set.
 *
 *     --size 4GiB --hot 512MiB --slice 100ms [--duration TIME] [--cpu N] [--threads N]
 *
 * The hot set lies in the middle. --cpu binds it to one processor; of --threads all work, one counts. Until SIGTERM or SIGINT without --duration.
 */
#define _GNU_SOURCE
#include "workload.h"

#include <pthread.h>
#include <sched.h>

#define LINE 64
#define OPERATIONS_PER_LOOK 1024 /* at the clock: some 20 us */

struct options {
	uint64_t size, hot, slice_ns, duration_ns, threads;
	int cpu;
};

static struct options parse(char **argv)
{
	struct options o = {.size = 4ULL << 30, .hot = 512 << 20, .slice_ns = 100000000, .threads = 1, .cpu = -1};

	for (int i = 1; argv[i]; i += 2) {
		const char *value = option_value(argv, i);

		if (strcmp(argv[i], "--size") == 0)
			o.size = parse_size(value);
		else if (strcmp(argv[i], "--hot") == 0)
			o.hot = parse_size(value);
		else if (strcmp(argv[i], "--slice") == 0)
			o.slice_ns = parse_time_ns(value);
		else if (strcmp(argv[i], "--duration") == 0)
			o.duration_ns = parse_time_ns(value);
		else if (strcmp(argv[i], "--cpu") == 0)
			o.cpu = (int)parse_count(value);
		else if (strcmp(argv[i], "--threads") == 0)
			o.threads = parse_count(value);
		else
			die("unknown option %s", argv[i]);
	}
	if (!o.threads)
		die("--threads must be at least 1");
	if (o.hot < PAGE || o.hot > o.size || o.hot / LINE > UINT32_MAX || !o.slice_ns)
		die("--hot must be between a page and --size, --slice above 0");
	return o;
}

static void bind_to(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (cpu >= 0 && sched_setaffinity(0, sizeof(set), &set) < 0)
		die("cannot run on processor %d: %s", cpu, strerror(errno));
}

static uint64_t run_slice(volatile char *hot, uint64_t lines, uint64_t end_ns, uint64_t *seed)
{
	uint64_t operations = 0;

	do {
		for (int i = 0; i < OPERATIONS_PER_LOOK; i++)
			hot[random_below(seed, lines) * LINE]++;
		operations += OPERATIONS_PER_LOOK;
	} while (now_ns() < end_ns && !stop_requested);
	return operations;
}

struct others {
	volatile char *hot;
	uint64_t lines;
};

static void *work_uncounted(void *argument)
{
	struct others *others = argument;
	uint64_t seed = (uint64_t)pthread_self();

	while (!stop_requested)
		run_slice(others->hot, others->lines, UINT64_MAX, &seed);
	return NULL;
}

static void start_others(struct others *others, uint64_t count)
{
	while (count--) {
		pthread_t thread;

		if (pthread_create(&thread, NULL, work_uncounted, others) != 0)
			die("cannot start a thread");
	}
}

int main(int argc, char **argv)
{
	struct options o = parse(argv);
	char *area = map_small_pages(o.size, "throughput");
	char *hot = area + (o.size - o.hot) / 2 / PAGE * PAGE;
	uint64_t seed = 1, total = 0, start_ns, slice_ns, end_ns;
	struct others others = {hot, o.hot / LINE};

	(void)argc;
	begin();
	bind_to(o.cpu);
	for (uint64_t offset = 0; offset < o.size; offset += PAGE)
		area[offset] = 1;
	say("{\"event\": \"ready\", \"pid\": %d, \"start\": %llu, \"end\": %llu, \"hot\": [[%llu, %llu]]}", getpid(),
	    (unsigned long long)(uintptr_t)area, (unsigned long long)(uintptr_t)area + o.size,
	    (unsigned long long)(uintptr_t)hot, (unsigned long long)(uintptr_t)hot + o.hot);
	start_others(&others, o.threads - 1);
	end_ns = start_ns = now_ns();
	while (!stop_requested && (!o.duration_ns || end_ns - start_ns < o.duration_ns)) {
		uint64_t operations;

		slice_ns = end_ns;
		operations = run_slice(hot, o.hot / LINE, slice_ns + o.slice_ns, &seed);
		end_ns = now_ns();
		total += operations;
		say("{\"event\": \"slice\", \"start_ns\": %llu, \"end_ns\": %llu, \"operations\": %llu}",
		    (unsigned long long)slice_ns, (unsigned long long)end_ns, (unsigned long long)operations);
	}
	say("{\"event\": \"end\", \"operations\": %llu, \"elapsed_s\": %.6f}", (unsigned long long)total,
	    (double)(end_ns - start_ns) / 1e9);
	return 0;
}
