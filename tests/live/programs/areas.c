// SPDX-License-Identifier: GPL-2.0-only
/* areas N: maps N areas of one page each, all resident, and writes 1009 of them every 10 ms. Says how many there are. */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#define PAGE 4096L
#define HOT 1009

int main(int argc, char **argv)
{
	long count = argc > 1 ? atol(argv[1]) : HOT, made = 0;
	char *room = mmap(NULL, 2 * count * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	while (made < count && mprotect(room + 2 * made * PAGE, PAGE, PROT_READ | PROT_WRITE) == 0)
		room[2 * made++ * PAGE] = 1;
	printf("%ld\n", made);
	fflush(stdout);
	while (made >= HOT) {
		for (long i = 0; i < HOT; i++)
			room[2 * i * PAGE]++;
		usleep(10000);
	}
	return 1;
}
