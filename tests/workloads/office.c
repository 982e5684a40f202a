// SPDX-License-Identifier: GPL-2.0-only
/*
 * office: a working day in little, for the demo. Memory in three places, each used in its own way:
 *
 *     hot     96 MiB     random records are updated all the time, at a steady rate: a page some 80 times a second
 *     warm   192 MiB     every page is visited once in 2 s, one after the other
 *     idle   800 MiB     filled at the start and then left alone. At SIGUSR1 a part of it is read once: the old file
 *                        that somebody wants after all
 *
 * It works in ticks of 1 ms and sleeps between them. Each slice of 250 ms it says how many operations it did and how
 * long it was busy with them: their quotient is its throughput, and a page that must first come back from swap counts
 * as the time it takes. At the end it reads every byte back and says whether anything was lost.
 *
 *     --hot 96MiB --warm 192MiB --idle 800MiB --comeback 40MiB     sizes
 *     --file PATH        the idle area is this file's (shared, written back), for machines without swap
 *     --duration TIME    without it: until SIGTERM or SIGINT
 */
#define _GNU_SOURCE
#include "workload.h"

#define WORDS (PAGE / sizeof(uint64_t))
#define RANDOM_WORDS (WORDS / 2) /* the other half of a page is regular, so that it compresses as real data does */
#define RECORD 8                 /* words: one cache line */
#define TICK_NS 1000000ULL
#define SLICE_NS 250000000ULL
#define HOT_PER_TICK 2000 /* far fewer, and waking up would cost more than the work */
#define WARM_PERIOD_TICKS 2000

struct area {
	const char *name;
	uint64_t *words;
	uint64_t pages;
};

struct options {
	uint64_t hot, warm, idle, comeback, duration_ns;
	const char *file;
};

struct office {
	struct area hot, warm, idle;
	uint64_t comeback_pages, seed, updates, visits, operations, total_operations, busy_ns, total_busy_ns;
};

static volatile sig_atomic_t comeback_requested;

static void request_comeback(int signal_number)
{
	(void)signal_number;
	comeback_requested = 1;
}

static struct options parse(char **argv)
{
	struct options o = {.hot = 96 << 20, .warm = 192 << 20, .idle = 800 << 20, .comeback = 40 << 20};

	for (int i = 1; argv[i]; i += 2) {
		const char *value = option_value(argv, i);

		if (strcmp(argv[i], "--hot") == 0)
			o.hot = parse_size(value);
		else if (strcmp(argv[i], "--warm") == 0)
			o.warm = parse_size(value);
		else if (strcmp(argv[i], "--idle") == 0)
			o.idle = parse_size(value);
		else if (strcmp(argv[i], "--comeback") == 0)
			o.comeback = parse_size(value);
		else if (strcmp(argv[i], "--duration") == 0)
			o.duration_ns = parse_time_ns(value);
		else if (strcmp(argv[i], "--file") == 0)
			o.file = value;
		else
			die("unknown option %s", argv[i]);
	}
	if (o.hot < PAGE || o.warm < PAGE || o.idle < PAGE || o.comeback > o.idle)
		die("every area must have at least a page, and --comeback at most --idle");
	return o;
}

/* What word `index` of an area holds at first. */
static uint64_t original(const struct area *area, uint64_t index)
{
	if (index % WORDS < RANDOM_WORDS)
		return mix(index ^ ((uint64_t)(unsigned char)area->name[0] << 56));
	return 0x0066006500690063; /* constant */
}

static uint64_t *map_file(const char *path, uint64_t bytes)
{
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	void *words;

	if (fd < 0 || ftruncate(fd, (off_t)bytes) < 0)
		die("cannot make %s: %s", path, strerror(errno));
	words = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (words == MAP_FAILED)
		die("cannot map %s: %s", path, strerror(errno));
	close(fd);
	return words;
}

static struct area make_area(const char *name, uint64_t bytes, const char *file)
{
	struct area area = {.name = name, .pages = page_count(bytes)};

	bytes = area.pages * PAGE;
	area.words = file ? map_file(file, bytes) : (uint64_t *)map_small_pages(bytes, name);
	for (uint64_t i = 0; i < area.pages * WORDS; i++)
		area.words[i] = original(&area, i);
	if (file && msync(area.words, bytes, MS_SYNC) < 0) /* a clean page can leave without being written first */
		die("cannot write %s: %s", file, strerror(errno));
	return area;
}

static void print_area(const struct area *area, const char *before)
{
	printf("%s{\"name\": \"%s\", \"start\": %llu, \"end\": %llu}", before, area->name,
	       (unsigned long long)(uintptr_t)area->words,
	       (unsigned long long)((uintptr_t)area->words + area->pages * PAGE));
}

static void announce(const struct office *office)
{
	printf("{\"event\": \"ready\", \"pid\": %d, \"areas\": [", getpid());
	print_area(&office->hot, "");
	print_area(&office->warm, ", ");
	print_area(&office->idle, ", ");
	say("]}");
}

/* One operation: read a record, count in its first word. */
static void update_record(struct office *office)
{
	uint64_t record = random_below(&office->seed, office->hot.pages * (WORDS / RECORD));
	volatile uint64_t *words = office->hot.words + record * RECORD;

	for (int i = 1; i < RECORD; i++)
		(void)words[i];
	words[0]++;
	office->updates++;
}

/* Also one operation: the next page of the warm area, in its turn. */
static void visit_page(struct office *office)
{
	office->warm.words[office->visits++ % office->warm.pages * WORDS]++;
}

static void tick(struct office *office, uint64_t number)
{
	uint64_t begin_ns = now_ns();
	uint64_t in_turn = number % WARM_PERIOD_TICKS + 1, rounds = number / WARM_PERIOD_TICKS;
	uint64_t visits_due = rounds * office->warm.pages + in_turn * office->warm.pages / WARM_PERIOD_TICKS;

	for (int i = 0; i < HOT_PER_TICK; i++)
		update_record(office);
	office->operations += HOT_PER_TICK + visits_due - office->visits;
	while (office->visits < visits_due)
		visit_page(office);
	office->busy_ns += now_ns() - begin_ns;
}

static void say_slice(struct office *office, uint64_t start_ns, uint64_t end_ns)
{
	say("{\"event\": \"slice\", \"start_ns\": %llu, \"end_ns\": %llu, \"operations\": %llu, \"busy_ns\": %llu}",
	    (unsigned long long)start_ns, (unsigned long long)end_ns, (unsigned long long)office->operations,
	    (unsigned long long)office->busy_ns);
	office->total_operations += office->operations;
	office->total_busy_ns += office->busy_ns;
	office->operations = office->busy_ns = 0;
}

static void come_back(const struct office *office)
{
	uint64_t begin_ns = now_ns(), sum = 0;

	for (uint64_t page = 0; page < office->comeback_pages; page++)
		sum += office->idle.words[page * WORDS];
	say("{\"event\": \"comeback\", \"bytes\": %llu, \"begin_ns\": %llu, \"end_ns\": %llu, \"sum\": %llu}",
	    (unsigned long long)(office->comeback_pages * PAGE), (unsigned long long)begin_ns,
	    (unsigned long long)now_ns(), (unsigned long long)sum);
}

/* Sum of how much every `step`th word grew; none for 0. Any other word that is not as it was counts as lost. */
static uint64_t grown(const struct area *area, uint64_t step, uint64_t *lost)
{
	uint64_t sum = 0;

	for (uint64_t i = 0; i < area->pages * WORDS; i++) {
		uint64_t difference = area->words[i] - original(area, i);

		if (step && i % step == 0)
			sum += difference;
		else if (difference)
			(*lost)++;
	}
	return sum;
}

static uint64_t lost_words(const struct office *office)
{
	uint64_t lost = 0;

	if (grown(&office->hot, RECORD, &lost) != office->updates)
		lost++;
	if (grown(&office->warm, WORDS, &lost) != office->visits)
		lost++;
	grown(&office->idle, 0, &lost);
	return lost;
}

static void work(struct office *office, uint64_t duration_ns)
{
	uint64_t start_ns = now_ns(), slice_ns = start_ns, number = 0;

	while (!stop_requested && (!duration_ns || now_ns() - start_ns < duration_ns)) {
		uint64_t after_ns;

		tick(office, number++);
		if (comeback_requested) {
			comeback_requested = 0;
			come_back(office);
		}
		after_ns = now_ns();
		if (after_ns - slice_ns >= SLICE_NS) {
			say_slice(office, slice_ns, after_ns);
			slice_ns = after_ns;
		}
		sleep_until((after_ns / TICK_NS + 1) * TICK_NS); /* a tick that took too long is not made up for */
	}
	say_slice(office, slice_ns, now_ns());
}

int main(int argc, char **argv)
{
	struct sigaction action = {.sa_handler = request_comeback};
	struct options o = parse(argv);
	struct office office = {.comeback_pages = page_count(o.comeback), .seed = 1};
	uint64_t lost;

	(void)argc;
	begin();
	sigaction(SIGUSR1, &action, NULL);
	office.hot = make_area("hot", o.hot, NULL);
	office.warm = make_area("warm", o.warm, NULL);
	office.idle = make_area("idle", o.idle, o.file);
	announce(&office);
	work(&office, o.duration_ns);
	lost = lost_words(&office);
	say("{\"event\": \"end\", \"operations\": %llu, \"operations_per_s\": %.0f, \"lost_words\": %llu}",
	    (unsigned long long)office.total_operations,
	    office.total_busy_ns ? (double)office.total_operations * 1e9 / (double)office.total_busy_ns : 0,
	    (unsigned long long)lost);
	return lost ? 1 : 0;
}
