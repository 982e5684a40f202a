// SPDX-License-Identifier: GPL-2.0-only
/*
 * pulse: touches a known share of its memory once each period, one byte a page, and sleeps for the rest.
 *
 * For accuracy: the working set of any interval longer than the period is exactly `hot_bytes`.
 *
 *     --size 1GiB --hot 10% --period 10ms     how much, how much of it is hot, how often
 *     --scatter contiguous|random             one hot range in the middle, or grains all over the area
 *     --grain 4K --seed 1                     of a random scatter
 *     --duration TIME                         without it: until SIGTERM or SIGINT
 *
 * Says where its memory is and which ranges of it are hot, then what it did: periods, late ones (the touches took
 * longer than the period), and touches a second of the time spent in touching.
 */
#define _GNU_SOURCE
#include "workload.h"

struct options {
	uint64_t size, grain, period_ns, duration_ns, seed;
	double hot;
	bool random;
};

struct range {
	uint64_t first, count; /* pages */
};

static struct options parse(char **argv)
{
	struct options o = {.size = 1 << 30, .grain = PAGE, .period_ns = 10000000, .seed = 1, .hot = 0.1};

	for (int i = 1; argv[i]; i += 2) {
		const char *value = option_value(argv, i);

		if (strcmp(argv[i], "--size") == 0)
			o.size = parse_size(value);
		else if (strcmp(argv[i], "--hot") == 0)
			o.hot = parse_share(value);
		else if (strcmp(argv[i], "--period") == 0)
			o.period_ns = parse_time_ns(value);
		else if (strcmp(argv[i], "--duration") == 0)
			o.duration_ns = parse_time_ns(value);
		else if (strcmp(argv[i], "--seed") == 0)
			o.seed = parse_count(value);
		else if (strcmp(argv[i], "--grain") == 0)
			o.grain = parse_size(value);
		else if (strcmp(argv[i], "--scatter") == 0 && strcmp(value, "random") == 0)
			o.random = true;
		else if (strcmp(argv[i], "--scatter") != 0 || strcmp(value, "contiguous") != 0)
			die("unknown option %s %s", argv[i], value);
	}
	if (o.size < PAGE || o.hot > 1 || !o.period_ns || o.grain < PAGE || o.grain % PAGE)
		die("--size and --grain must be at least a page, --hot at most 100%%, --period above 0");
	return o;
}

/* Exactly `wanted` of `total` things, each subset as likely as any other, in order (Knuth's algorithm S). */
static uint64_t choose_scattered(struct range *ranges, uint64_t total, uint64_t wanted, uint64_t unit, uint64_t seed)
{
	uint64_t count = 0;

	for (uint64_t i = 0; i < total && wanted; i++) {
		if (random_below(&seed, total - i) >= wanted)
			continue;
		wanted--;
		if (count && ranges[count - 1].first + ranges[count - 1].count == i * unit)
			ranges[count - 1].count += unit;
		else
			ranges[count++] = (struct range){i * unit, unit};
	}
	return count;
}

static uint64_t choose_hot(const struct options *o, struct range **ranges)
{
	uint64_t pages = o->size / PAGE, unit = o->grain / PAGE;
	uint64_t wanted = (uint64_t)((double)pages * o->hot + 0.5);

	*ranges = calloc(pages / unit + 1, sizeof(**ranges));
	if (o->random)
		return choose_scattered(*ranges, pages / unit, wanted / unit, unit, o->seed);
	(*ranges)[0] = (struct range){(pages - wanted) / 2, wanted};
	return wanted > 0;
}

static uint64_t announce(const struct options *o, const char *area, const struct range *ranges, uint64_t count)
{
	uint64_t hot_pages = 0;

	printf("{\"event\": \"ready\", \"pid\": %d, \"start\": %llu, \"end\": %llu, \"hot\": [", getpid(),
	       (unsigned long long)(uintptr_t)area, (unsigned long long)(uintptr_t)area + o->size);
	for (uint64_t i = 0; i < count; i++) {
		unsigned long long start = (uintptr_t)area + ranges[i].first * PAGE;

		printf("%s[%llu, %llu]", i ? ", " : "", start, start + ranges[i].count * PAGE);
		hot_pages += ranges[i].count;
	}
	say("], \"hot_bytes\": %llu}", (unsigned long long)(hot_pages * PAGE));
	return hot_pages;
}

static void touch_all(volatile char *area, const struct range *ranges, uint64_t count)
{
	for (uint64_t i = 0; i < count; i++)
		for (uint64_t page = ranges[i].first; page < ranges[i].first + ranges[i].count; page++)
			area[page * PAGE]++;
}

int main(int argc, char **argv)
{
	struct options o = parse(argv);
	struct range *ranges, all = {0, o.size / PAGE};
	uint64_t count = choose_hot(&o, &ranges), hot_pages, start_ns, due_ns, busy_ns = 0, periods = 0, late = 0;
	char *area = map_small_pages(o.size, "pulse");

	(void)argc;
	begin();
	touch_all(area, &all, 1);
	hot_pages = announce(&o, area, ranges, count);
	due_ns = start_ns = now_ns();
	while (!stop_requested && (!o.duration_ns || due_ns - start_ns < o.duration_ns)) {
		uint64_t begin_ns = now_ns(), end_ns;

		touch_all(area, ranges, count);
		end_ns = now_ns();
		busy_ns += end_ns - begin_ns;
		periods++;
		due_ns += o.period_ns;
		if (due_ns < end_ns) {
			due_ns = end_ns;
			late++;
		}
		sleep_until(due_ns);
	}
	say("{\"event\": \"end\", \"periods\": %llu, \"late\": %llu, \"elapsed_s\": %.6f, \"touches_per_s\": %.0f}",
	    (unsigned long long)periods, (unsigned long long)late, (double)(now_ns() - start_ns) / 1e9,
	    busy_ns ? (double)(periods * hot_pages) * 1e9 / (double)busy_ns : 0);
	return 0;
}
