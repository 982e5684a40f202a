// SPDX-License-Identifier: GPL-2.0-only
/*
 * churn: changes its address space as fast as it can, in three threads, for as long as it is told.
 *
 * One maps, fills and unmaps; one makes huge pages and splits them; one forks children that exit, and shrinks and grows
 * a mapping. A fourth, the main one, keeps 1009 pages in use at one place.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE 4096UL
#define CHUNK (512 * PAGE)
#define HOT 1009

static char *map(size_t bytes)
{
	return mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static void *map_and_unmap(void *unused)
{
	for (unsigned n = 1;; n++) {
		size_t bytes = (n * 2654435761U % 4093 + 1) * PAGE;
		char *area = map(bytes);

		if (area == MAP_FAILED)
			continue;
		memset(area, 1, bytes);
		if (n % 3 == 0)
			mprotect(area, bytes / 2 / PAGE * PAGE, PROT_NONE);
		munmap(area, bytes);
	}
	return unused;
}

static void *huge_and_split(void *unused)
{
	char *room = map(17 * CHUNK), *area = (char *)(((unsigned long)room + CHUNK - 1) & ~(CHUNK - 1));

	madvise(area, 16 * CHUNK, MADV_HUGEPAGE);
	for (unsigned n = 0;; n++) {
		memset(area, 1, 16 * CHUNK);
		madvise(area + n % 16 * CHUNK + PAGE, PAGE, MADV_DONTNEED);
		mprotect(area + (n + 5) % 16 * CHUNK + 7 * PAGE, PAGE, PROT_READ);
		mprotect(area + (n + 5) % 16 * CHUNK + 7 * PAGE, PAGE, PROT_READ | PROT_WRITE);
		madvise(area, 16 * CHUNK, MADV_DONTNEED);
	}
	return unused;
}

static void *fork_and_shrink(void *unused)
{
	char *area = map(4093 * PAGE);

	for (unsigned n = 0;; n++) {
		size_t bytes = (n % 2 ? 4093 : 503) * PAGE;
		pid_t child = fork();

		if (child == 0)
			_exit(0);
		area = mremap(area, (n % 2 ? 503 : 4093) * PAGE, bytes, MREMAP_MAYMOVE);
		memset(area, 1, bytes);
		if (child > 0)
			waitpid(child, NULL, 0);
	}
	return unused;
}

int main(void)
{
	void *(*work[])(void *) = {map_and_unmap, huge_and_split, fork_and_shrink};
	char *hot = map(HOT * PAGE);
	pthread_t thread;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	printf("%lu\n", (unsigned long)hot);
	fflush(stdout);
	for (int i = 0; i < 3; i++)
		pthread_create(&thread, NULL, work[i], NULL);
	while (1) {
		for (int i = 0; i < HOT; i++)
			hot[i * PAGE]++;
		usleep(1000);
	}
}
