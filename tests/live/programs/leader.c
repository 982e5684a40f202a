// SPDX-License-Identifier: GPL-2.0-only
/* leader SECONDS: its main thread ends after so long, and another one goes on working for a minute. */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <unistd.h>

static void *work(void *unused)
{
	volatile char *memory = malloc(8 << 20);

	for (int round = 0; round < 6000; round++) {
		for (long i = 0; i < 8 << 20; i += 4096)
			memory[i]++;
		usleep(10000);
	}
	return unused;
}

int main(int argc, char **argv)
{
	pthread_t thread;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	pthread_create(&thread, NULL, work, NULL);
	usleep((useconds_t)(argc > 1 ? atof(argv[1]) * 1e6 : 0));
	pthread_exit(NULL);
}
