/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The contract between the BPF programs and Python: every record that crosses, and the limits.
 * kernel/layout.py mirrors it in numpy; a test compiles this file with the host's cc and compares field by field.
 *
 * Only plain integer types, padding by name, so that BCC, a host compiler and numpy agree on it without an include.
 */
#ifndef PAGEPULSE_H
#define PAGEPULSE_H

enum {
	PP_WINDOW_PAGES = 64,   /* pages of a window: one bit each in a 64-bit mask */
	PP_TABLE_PAGES = 512,   /* entries of a page table */
	PP_WINDOWS = 512,       /* windows that one run of read_windows reads at most */
	PP_TABLES = 256,        /* page tables that one run of copy_tables copies at most */
	PP_FAULTS = 16384,      /* windows with faults between two drains */
	PP_TAKEN = 65536,       /* windows with accessed bits taken by another agent between two drains: 16 GiB */
};

/* Where the entry of a window was found. */
enum pp_level {
	PP_LEVEL_NONE = 0,      /* no page table: nothing is resident */
	PP_LEVEL_PAGE = 1,      /* a page table: 4 KiB pages */
	PP_LEVEL_CHUNK = 2,     /* a 2 MiB leaf */
	PP_LEVEL_GIB = 4,       /* a 1 GiB leaf */
	PP_LEVEL_LOST = 8,      /* set beside the others: the page table was replaced while it was read */
};

/* What a run of a reading program returns. */
enum pp_status {
	PP_OK = 0,
	PP_NO_MAP = 1,          /* cannot happen: an array lookup failed */
	PP_GONE = 2,            /* the target has no memory (any more): it exited, or is a kernel thread */
	PP_CHANGED = 3,         /* the target became another program during the read */
};

/* The one request record: Python fills the first half, the program the second. */
struct pp_request {
	unsigned long long base;        /* direct map: virtual address of physical 0 */
	unsigned long long start;       /* copy_*: first address, aligned to what one table maps */
	unsigned int pidfd;             /* the target, a descriptor of the calling process */
	unsigned int count;             /* windows, or tables, to read */
	unsigned long long mm;          /* out: the target's mm; another one means another program */
	unsigned long long exec_id;     /* out: task_struct.self_exec_id, which each exec increments */
	unsigned long long pgd;         /* out: its top page table */
	unsigned int tgid;              /* out: its process id in the initial namespace */
	unsigned int pad;
};

struct pp_window {
	unsigned long long address;     /* in: a multiple of 64 pages */
	unsigned long long young;       /* out: bit i: page i is resident and has its accessed bit set */
	unsigned long long present;     /* out: bit i: page i is resident */
	unsigned int level;             /* out: enum pp_level */
	unsigned int pad;
};

struct pp_table {
	unsigned long long entry[PP_TABLE_PAGES];
};

/* Whom the probes look at (all zero: at those in `watched`), and how they write. */
struct pp_filter {
	unsigned long long mm;          /* the target's mm, where there is one alone */
	unsigned int tgid;              /* the target */
	unsigned int self;              /* our thread while it clears: what we clear ourselves is not taken by another */
	unsigned int faults_epoch;      /* 0 or 1: which of the two tables is written to */
	unsigned int taken_epoch;
};

/*
 * What the probes could not keep; and for each of the two tables of a kind, how many programs began to write to it and how
 * many are done. Python looks here first, an empty table is dear to drain; and where both are equal, nobody is in there.
 */
struct pp_loss {
	unsigned long long faults;      /* faults not counted: the table was full */
	unsigned long long taken;       /* accessed bits not kept: the table was full */
	unsigned long long faults_begun[2];
	unsigned long long faults_done[2];
	unsigned long long taken_begun[2];
	unsigned long long taken_done[2];
};

_Static_assert(sizeof(struct pp_window) == 32, "windows are mapped as an array of 32 bytes each");
_Static_assert(sizeof(struct pp_table) == 4096, "tables are mapped as one run of whole pages");
_Static_assert(PP_WINDOW_PAGES == 8 * sizeof(unsigned long long), "one bit a page");

#endif
