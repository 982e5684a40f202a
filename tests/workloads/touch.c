// SPDX-License-Identifier: GPL-2.0-only
/*
 * touch: touches exactly the pages that it is told to, when it is told to.
 *
 * For tests that must know to the page what a reader should see. It maps the areas given as options, populates them,
 * says where they are, and then obeys one command a line on stdin, answering each with one JSON line:
 *
 *     touch NAME FIRST_PAGE COUNT [STEP]    write a byte in COUNT pages: FIRST, FIRST + STEP, ...
 *     read  NAME FIRST_PAGE COUNT [STEP]    the same, reading
 *     map   NAME:BYTES[:OPTION...]          as --area
 *     unmap NAME
 *     lock | unlock NAME                    mlock, munlock
 *     huge  NAME                            ask for huge pages from now on
 *     drop  NAME                            take all its pages out of the page table, as reclaim does (MADV_DONTNEED)
 *     sleep MS
 *     fork  [NAME]                          a child that shares all memory (copy on write) and sleeps; it first reads
 *                                           all of NAME, so that shared memory is mapped by both
 *     reap                                  end that child
 *     exec  PROGRAM [ARGS...]               become another program; answers before it does
 *     quit                                  as the end of stdin
 *
 * --area NAME:BYTES[:OPTION...]; without an option private anonymous memory of small pages. Options:
 *     thp          aligned to 2 MiB, and huge pages asked for before it is populated
 *     hugetlb      pages of the hugetlb pool, of 2 MiB; with `giant` of 1 GiB
 *     locked       mlock
 *     shared       MAP_SHARED
 *     file=PATH    of a file, which is made as large as needed; populated by reading. PATH has no colon
 *     lazy         not populated
 */
#define _GNU_SOURCE
#include "workload.h"

#include <ctype.h>
#include <linux/mman.h>
#include <sys/wait.h>

#define MAX_AREAS 64
#define GIB (1ULL << 30)
#define MAX_WORDS 16

struct area {
	char name[64];
	volatile char *start;
	uint64_t bytes;
	bool thp, hugetlb, giant, locked, shared, lazy;
	const char *file;
};

static struct area areas[MAX_AREAS];
static int area_count;
static char failure[512];
static pid_t child;

/* Every function below that can fail leaves the reason here and returns false. */
__attribute__((format(printf, 1, 2))) static bool fail(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(failure, sizeof(failure), format, args);
	va_end(args);
	return false;
}

static struct area *find_area(const char *name)
{
	for (int i = 0; i < area_count; i++)
		if (strcmp(areas[i].name, name) == 0)
			return &areas[i];
	fail("no area is called %s", name);
	return NULL;
}

static bool parse_area(char *spec, struct area *area)
{
	char *name = strsep(&spec, ":"), *bytes = strsep(&spec, ":");

	if (!bytes || !*name || strlen(name) >= sizeof(area->name) || strpbrk(name, "\"\\ "))
		return fail("expected NAME:BYTES[:OPTION...]");
	strcpy(area->name, name);
	area->bytes = page_count(parse_size(bytes)) * PAGE;
	for (char *option; (option = strsep(&spec, ":"));) {
		if (strcmp(option, "thp") == 0)
			area->thp = true;
		else if (strcmp(option, "hugetlb") == 0)
			area->hugetlb = true;
		else if (strcmp(option, "giant") == 0)
			area->hugetlb = area->giant = true;
		else if (strcmp(option, "locked") == 0)
			area->locked = true;
		else if (strcmp(option, "shared") == 0)
			area->shared = true;
		else if (strcmp(option, "lazy") == 0)
			area->lazy = true;
		else if (strncmp(option, "file=", 5) == 0)
			area->file = option + 5;
		else
			return fail("unknown option %s", option);
	}
	return true;
}

static int open_file(const struct area *area)
{
	int fd = open(area->file, O_RDWR | O_CREAT | O_CLOEXEC, 0600);

	if (fd >= 0 && lseek(fd, 0, SEEK_END) < (off_t)area->bytes && ftruncate(fd, (off_t)area->bytes) < 0) {
		close(fd);
		return -1;
	}
	return fd;
}

/* A huge page needs a 2 MiB boundary: map more, and give the ends back. */
static char *map_aligned(const struct area *area, int flags)
{
	uint64_t room = area->bytes + CHUNK;
	char *start = mmap(NULL, room, PROT_READ | PROT_WRITE, flags, -1, 0), *aligned;

	if (start == MAP_FAILED)
		return start;
	aligned = (char *)(((uintptr_t)start + CHUNK - 1) & ~(uintptr_t)(CHUNK - 1));
	if (aligned > start)
		munmap(start, (size_t)(aligned - start));
	munmap(aligned + area->bytes, (size_t)(start + room - (aligned + area->bytes)));
	return aligned;
}

static bool map_memory(struct area *area)
{
	int flags = area->shared ? MAP_SHARED : MAP_PRIVATE, fd = -1;
	char *start;

	if (area->file) {
		fd = open_file(area);
		if (fd < 0)
			return fail("cannot open %s: %s", area->file, strerror(errno));
	} else {
		flags |= MAP_ANONYMOUS | (area->hugetlb ? MAP_HUGETLB : 0) | (area->giant ? 30 << MAP_HUGE_SHIFT : 0);
	}
	if (area->lazy && !area->hugetlb)
		flags |= MAP_NORESERVE; /* it may be larger than the machine's memory */
	if (area->hugetlb)
		area->bytes = (area->bytes + CHUNK - 1) / CHUNK * CHUNK;
	if (area->giant)
		area->bytes = (area->bytes + GIB - 1) / GIB * GIB;
	start = area->thp ? map_aligned(area, flags)
			  : mmap(NULL, area->bytes, PROT_READ | PROT_WRITE, flags, fd, 0);
	if (fd >= 0)
		close(fd);
	if (start == MAP_FAILED)
		return fail("cannot map %s: %s", area->name, strerror(errno));
	area->start = start;
	madvise(start, area->bytes, area->thp ? MADV_HUGEPAGE : MADV_NOHUGEPAGE); /* hugetlb refuses: harmless */
	if (!area->file)
		name_area(start, area->bytes, area->name);
	return true;
}

static bool access_pages(const struct area *area, uint64_t first, uint64_t count, uint64_t step, bool write)
{
	uint64_t pages = area->bytes / PAGE;

	if (!step || (count && (first >= pages || (count - 1) > (pages - 1 - first) / step)))
		return fail("%s has %llu pages", area->name, (unsigned long long)pages);
	for (uint64_t i = 0; i < count; i++) {
		volatile char *byte = area->start + (first + i * step) * PAGE;

		if (write)
			*byte = 1; /* not read first: on Linux 6.1 that maps the huge zero page, and the write then small ones */
		else
			(void)*byte;
	}
	return true;
}

static bool add_area(const char *spec)
{
	struct area *area = &areas[area_count];
	char *copy = strdup(spec); /* kept: the file's path points into it */

	if (area_count == MAX_AREAS)
		return fail("at most %d areas", MAX_AREAS);
	memset(area, 0, sizeof(*area));
	if (!parse_area(copy, area))
		return false;
	for (int i = 0; i < area_count; i++)
		if (strcmp(areas[i].name, area->name) == 0)
			return fail("%s is mapped already", area->name);
	if (!map_memory(area))
		return false;
	if (!area->lazy && !access_pages(area, 0, area->bytes / PAGE, 1, !area->file))
		return false;
	if (area->locked && mlock((const char *)area->start, area->bytes) < 0)
		return fail("cannot lock %s: %s", area->name, strerror(errno));
	area_count++;
	return true;
}

static void print_area(const struct area *area)
{
	printf("{\"name\": \"%s\", \"start\": %llu, \"end\": %llu, \"pages\": %llu}", area->name,
	       (unsigned long long)(uintptr_t)area->start, (unsigned long long)(uintptr_t)area->start + area->bytes,
	       (unsigned long long)(area->bytes / PAGE));
}

static bool do_access(char **words, int count, bool write)
{
	struct area *area;
	uint64_t first, pages, step, begin_ns;

	if (count < 4)
		return fail("expected %s NAME FIRST_PAGE COUNT [STEP]", words[0]);
	area = find_area(words[1]);
	if (!area)
		return false;
	first = parse_count(words[2]);
	pages = parse_count(words[3]);
	step = count > 4 ? parse_count(words[4]) : 1;
	begin_ns = now_ns();
	if (!access_pages(area, first, pages, step, write))
		return false;
	say("{\"event\": \"%s\", \"pages\": %llu, \"begin_ns\": %llu, \"end_ns\": %llu}", words[0],
	    (unsigned long long)pages, (unsigned long long)begin_ns, (unsigned long long)now_ns());
	return true;
}

static bool do_map(char **words, int count)
{
	if (count < 2)
		return fail("expected map NAME:BYTES[:OPTION...]");
	if (!add_area(words[1]))
		return false;
	printf("{\"event\": \"map\", \"area\": ");
	print_area(&areas[area_count - 1]);
	say("}");
	return true;
}

static bool do_unmap(char **words, int count)
{
	struct area *area = count > 1 ? find_area(words[1]) : NULL;

	if (!area)
		return count > 1 ? false : fail("expected unmap NAME");
	munmap((char *)area->start, area->bytes);
	*area = areas[--area_count];
	say("{\"event\": \"unmap\"}");
	return true;
}

static bool do_advise(char **words, int count)
{
	struct area *area = count > 1 ? find_area(words[1]) : NULL;
	int result;

	if (!area)
		return count > 1 ? false : fail("expected %s NAME", words[0]);
	if (strcmp(words[0], "huge") == 0)
		result = madvise((char *)area->start, area->bytes, MADV_HUGEPAGE);
	else if (strcmp(words[0], "drop") == 0)
		result = madvise((char *)area->start, area->bytes, MADV_DONTNEED);
	else if (strcmp(words[0], "lock") == 0)
		result = mlock((char *)area->start, area->bytes);
	else
		result = munlock((char *)area->start, area->bytes);
	if (result < 0)
		return fail("cannot %s %s: %s", words[0], words[1], strerror(errno));
	say("{\"event\": \"%s\"}", words[0]);
	return true;
}

static void be_the_child(const struct area *area, int ready)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (area)
		access_pages(area, 0, area->bytes / PAGE, 1, false);
	close(ready);
	while (true)
		pause();
}

static bool do_fork(char **words, int count)
{
	struct area *area = NULL;
	int ready[2];
	char nothing;

	if (child)
		return fail("there is a child already");
	if (count > 1 && !(area = find_area(words[1])))
		return false;
	if (pipe(ready) < 0 || (child = fork()) < 0) {
		child = 0;
		return fail("cannot fork: %s", strerror(errno));
	}
	if (child == 0)
		be_the_child(area, ready[1]);
	close(ready[1]);
	while (read(ready[0], &nothing, 1) > 0) /* until the child closes its end */
		;
	close(ready[0]);
	say("{\"event\": \"fork\", \"pid\": %d}", child);
	return true;
}

static bool do_reap(void)
{
	if (!child)
		return fail("there is no child");
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	child = 0;
	say("{\"event\": \"reap\"}");
	return true;
}

static bool do_exec(char **words, int count)
{
	if (count < 2)
		return fail("expected exec PROGRAM [ARGS...]");
	say("{\"event\": \"exec\"}");
	execvp(words[1], words + 1);
	return fail("cannot execute %s: %s", words[1], strerror(errno));
}

static bool obey(char **words, int count)
{
	if (strcmp(words[0], "touch") == 0 || strcmp(words[0], "read") == 0)
		return do_access(words, count, words[0][0] == 't');
	if (strcmp(words[0], "map") == 0)
		return do_map(words, count);
	if (strcmp(words[0], "unmap") == 0)
		return do_unmap(words, count);
	if (strcmp(words[0], "fork") == 0)
		return do_fork(words, count);
	if (strcmp(words[0], "reap") == 0)
		return do_reap();
	if (strcmp(words[0], "lock") == 0 || strcmp(words[0], "unlock") == 0 || strcmp(words[0], "huge") == 0 ||
	    strcmp(words[0], "drop") == 0)
		return do_advise(words, count);
	if (strcmp(words[0], "exec") == 0)
		return do_exec(words, count);
	if (strcmp(words[0], "sleep") == 0 && count == 2) {
		sleep_until(now_ns() + parse_count(words[1]) * 1000000);
		say("{\"event\": \"sleep\"}");
		return true;
	}
	return fail("unknown command");
}

static int split(char *line, char **words)
{
	int count = 0;

	for (char *word = strtok(line, " \n"); word && count < MAX_WORDS; word = strtok(NULL, " \n"))
		words[count++] = word;
	words[count] = NULL;
	return count;
}

static void print_failure(void)
{
	for (char *c = failure; *c; c++)
		if (*c == '"' || *c == '\\' || iscntrl((unsigned char)*c))
			*c = '\'';
	say("{\"event\": \"error\", \"message\": \"%s\"}", failure);
}

int main(int argc, char **argv)
{
	char *words[MAX_WORDS + 1], *line = NULL;
	size_t room = 0;

	begin();
	for (int i = 1; i < argc; i += 2) {
		if (strcmp(argv[i], "--area") != 0)
			die("unknown option %s", argv[i]);
		if (!add_area(option_value(argv, i)))
			die("%s: %s", argv[i + 1], failure);
	}
	printf("{\"event\": \"ready\", \"pid\": %d, \"areas\": [", getpid());
	for (int i = 0; i < area_count; i++) {
		printf("%s", i ? ", " : "");
		print_area(&areas[i]);
	}
	say("]}");
	while (!stop_requested && getline(&line, &room, stdin) > 0) {
		int count = split(line, words);

		if (count && strcmp(words[0], "quit") == 0)
			break;
		if (count && !obey(words, count))
			print_failure();
	}
	free(line);
	if (child)
		kill(child, SIGKILL);
	say("{\"event\": \"end\"}");
	return 0;
}
