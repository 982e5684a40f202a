// SPDX-License-Identifier: GPL-2.0-only
/*
 * stairs: uses one area after the other.
 *
 * For accuracy over time: all areas are touched once, then each in turn is swept without a pause, one byte a page,
 * while the others rest. A monitor sees a staircase; the working set is one area, at any moment but the changes.
 *
 *     --areas 10 --bytes 10000000 --phase 2500ms
 *
 * Says where the areas are, and the start of each phase (CLOCK_MONOTONIC).
 */
#define _GNU_SOURCE
#include "workload.h"

struct options {
	uint64_t areas, bytes, phase_ns;
};

static struct options parse(char **argv)
{
	struct options o = {.areas = 10, .bytes = 10000000, .phase_ns = 2500000000};

	for (int i = 1; argv[i]; i += 2) {
		const char *value = option_value(argv, i);

		if (strcmp(argv[i], "--areas") == 0)
			o.areas = parse_count(value);
		else if (strcmp(argv[i], "--bytes") == 0)
			o.bytes = parse_size(value);
		else if (strcmp(argv[i], "--phase") == 0)
			o.phase_ns = parse_time_ns(value);
		else
			die("unknown option %s", argv[i]);
	}
	if (!o.areas || !o.bytes)
		die("--areas and --bytes must be above 0");
	return o;
}

static void sweep(volatile char *area, uint64_t bytes)
{
	for (uint64_t offset = 0; offset < bytes; offset += PAGE)
		area[offset]++;
}

static uint64_t sweep_for(volatile char *area, uint64_t bytes, uint64_t duration_ns)
{
	uint64_t end_ns = now_ns() + duration_ns, sweeps = 0;

	for (; !stop_requested && now_ns() < end_ns; sweeps++)
		sweep(area, bytes);
	return sweeps;
}

static char **map_areas(const struct options *o)
{
	char **areas = calloc(o->areas, sizeof(*areas));

	for (uint64_t i = 0; i < o->areas; i++) {
		areas[i] = map_small_pages(page_count(o->bytes) * PAGE, "stairs");
		sweep(areas[i], o->bytes);
	}
	return areas;
}

static void print_range(const char *area, uint64_t bytes)
{
	printf("\"start\": %llu, \"end\": %llu", (unsigned long long)(uintptr_t)area,
	       (unsigned long long)((uintptr_t)area + page_count(bytes) * PAGE));
}

int main(int argc, char **argv)
{
	struct options o = parse(argv);
	char **areas;
	uint64_t sweeps = 0;

	(void)argc;
	begin();
	areas = map_areas(&o);
	printf("{\"event\": \"ready\", \"pid\": %d, \"areas\": [", getpid());
	for (uint64_t i = 0; i < o.areas; i++) {
		printf("%s{", i ? ", " : "");
		print_range(areas[i], o.bytes);
		putchar('}');
	}
	say("]}");
	for (uint64_t i = 0; i < o.areas && !stop_requested; i++) {
		printf("{\"event\": \"phase\", \"area\": %llu, \"start_ns\": %llu, ", (unsigned long long)i,
		       (unsigned long long)now_ns());
		print_range(areas[i], o.bytes);
		say("}");
		sweeps += sweep_for(areas[i], o.bytes, o.phase_ns);
	}
	say("{\"event\": \"end\", \"sweeps\": %llu, \"end_ns\": %llu}", (unsigned long long)sweeps,
	    (unsigned long long)now_ns());
	return 0;
}
