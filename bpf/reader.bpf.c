/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The reader: accessed bits of a target's page tables, read in place.
 *
 * Three raw-tracepoint programs that are attached to nothing. Python runs them on demand with BPF_PROG_TEST_RUN, so their
 * time is our own system time:
 *
 *   read_windows         64 pages each, from a list of addresses: which are resident, which are young
 *   copy_page_tables     whole page tables, 512 entries each, for numpy to count
 *   copy_middle_tables   whole page middle directories, 1 GiB each: which 2 MiB have anything in them
 *
 * Order in each: the pidfd in the request leads to the target's mm (our files -> file -> struct pid -> task -> mm), the mm to
 * the top table, the direct map to each further one. Nothing is locked. A table can be replaced under a read, so the entry
 * that led to it is read again afterwards, and so is the mm at the end: what was overtaken is reported as lost, never
 * as cold.
 *
 * Written for Linux 6.1's verifier: no branches in the walk (a failed read leaves 0, and 0 is "not present"), because a
 * bounded loop may take some 8000 jumps in all. BCC rewrites map methods only in this file, not in a header.
 * Offsets (-D) come from the running kernel's BTF.
 */
#include <linux/types.h>
#include "pagepulse.h"

#define MMAPABLE 1024 /* BPF_F_MMAPABLE */
BPF_F_TABLE("array", u32, struct pp_request, request, 1, MMAPABLE);
BPF_F_TABLE("array", u32, struct pp_window, windows, PP_WINDOWS, MMAPABLE);
/* One entry for each table, mapped as one run: one large leaf instead takes BCC 9 s to compile. */
BPF_F_TABLE("array", u32, struct pp_table, tables, PP_TABLES, MMAPABLE);
BPF_F_TABLE("array", u32, u64, parents, PP_TABLES, MMAPABLE);

struct run64 {
	u64 pte[PP_WINDOW_PAGES];
};
BPF_ARRAY(scratch, struct run64, 1); /* too large for the stack; the requests come one at a time */

#define PRESENT 0x1ULL
#define ACCESSED 0x20ULL
#define DIRTY 0x40ULL
#define LEAF 0x80ULL     /* _PAGE_PSE */
#define PROTNONE 0x100ULL /* _PAGE_GLOBAL where not present: resident, but faults on purpose (NUMA balancing) */

#define READ(to, from) bpf_probe_read_kernel(&(to), sizeof(to), (void *)(from))
#define ALL_IF(bit) (-(u64)((bit) & 1)) /* bit 0 as a mask of 64 bits */
/* Clang may assume nothing about the value, and not move work across. */
#define HIDE(value) asm volatile("" : "+r"(value) : : "memory")
/* mask & bit, by multiplication: Linux 6.18's verifier follows both values of a mask that meets a constant apart. */
#define BIT_IF(mask, bit) ({ u64 sign_ = (mask) >> 63; HIDE(sign_); sign_ * (bit); })
/* Read anew at each turn: else clang folds both tests of a loop into i != min(n, LIMIT), which 6.1's verifier cannot bound. */
#define COUNT(r) (*(volatile u32 *)&(r)->count)

/*
 * From the pidfd to the target. All results go straight to the request, in a map: kept in registers, what each path knows of
 * them would make the verifier walk the loops once more for each path.
 */
static __always_inline void find_target(struct pp_request *r)
{
	u64 at = bpf_get_current_task(), inode = 0, pid = 0, task = 0, other = 0;

	READ(at, at + TASK_FILES);
	READ(at, at + FILES_FDT);
	READ(at, at + FDT_FD);
	READ(at, at + 8ULL * r->pidfd);
	/* Since Linux 6.9 (cb12fd8e0dab "pidfd: add pidfs") struct pid hangs off the inode; before, off the file. */
	READ(pid, at + FILE_PRIVATE);
	READ(inode, at + FILE_INODE);
	if (!pid)
		READ(pid, inode + INODE_PRIVATE);
	READ(task, pid + PID_TASKS + 8); /* tasks[PIDTYPE_TGID].first; 0 once it was reaped */
	if (!task) {
		r->mm = r->pgd = 0;
		return;
	}
	task -= TASK_PID_LINKS + 16; /* &pid_links[PIDTYPE_TGID] */
	READ(r->tgid, task + TASK_TGID);
	READ(r->exec_id, task + TASK_SELF_EXEC_ID);
	READ(r->mm, task + TASK_MM);
	if (!r->mm) { /* the main thread may be gone while others run: ask the youngest one */
		READ(other, task + TASK_SIGNAL);
		READ(other, other + SIGNAL_THREAD_HEAD + 8);
		READ(r->mm, other - TASK_THREAD_NODE + TASK_MM);
	}
	READ(r->pgd, r->mm + MM_PGD);
}

/* Is the target still the program that it was before the read? */
static __always_inline int finish(struct pp_request *r, u64 mm, u64 exec_id)
{
	find_target(r);
	return r->mm == mm && r->exec_id == exec_id ? PP_OK : PP_CHANGED;
}

/* The page upper directory's entry for an address; 0 where a level above is absent. */
static __always_inline u64 pud_entry(u64 base, u64 pgd, u64 addr)
{
	u64 entry = 0, ok = ~0ULL;

#if LEVELS == 5
	READ(entry, pgd + ((addr >> 48) & 511) * 8);
	ok &= ALL_IF(entry);
	pgd = base + (entry & FRAME);
#endif
	READ(entry, pgd + ((addr >> 39) & 511) * 8);
	ok &= ALL_IF(entry);
	READ(entry, base + (entry & FRAME) + ((addr >> 30) & 511) * 8);
	return entry & ok;
}

/* An entry leads to a table: present, and no leaf. */
static __always_inline u64 is_table(u64 entry)
{
	return ALL_IF(entry & ~(entry >> 7));
}

/* An entry is a leaf of its own: while a huge page is being split, or hinted, only these bits say that it is there. */
static __always_inline u64 is_leaf(u64 entry)
{
	return ALL_IF(entry >> 7);
}

/* All bits set if an entry came to lead elsewhere between two reads. */
static __always_inline u64 differ(u64 before, u64 after)
{
	u64 change = (before ^ after) & ~(ACCESSED | DIRTY);

	return ALL_IF((change | -change) >> 63);
}

static __always_inline void count_window(struct pp_window *w, struct run64 *run)
{
	u64 young = 0, present = 0;

#pragma unroll
	for (int i = 0; i < PP_WINDOW_PAGES; i++) {
		u64 pte = run->pte[i], hinted = pte >> 8;

		HIDE(hinted); /* else clang tests both bits at once, with a branch */
		hinted = (hinted | pte) & 1;
		present |= hinted << i;
		young |= (pte >> 5 & hinted) << i;
		HIDE(present); /* one page at a time: else clang loads all 64 first, and has no stack to keep them in */
		HIDE(young);
	}
	w->present = present;
	w->young = young;
}

int read_windows(void *ctx)
{
	int zero = 0;
	struct pp_request *r = request.lookup(&zero);
	struct run64 *run = scratch.lookup(&zero);

	if (!r || !run)
		return PP_NO_MAP;
	find_target(r);
	u64 base = r->base, pgd = r->pgd, mm = r->mm, exec_id = r->exec_id;

	if (!pgd)
		return PP_GONE;
	for (u32 i = 0; i < PP_WINDOWS; i++) {
		u32 index = i;
		u64 pud, pmd = 0, again = 0, slot, table, chunk, gib, leaf;

		if (i >= COUNT(r))
			break;
		struct pp_window *w = windows.lookup(&index); /* indexing one big leaf instead: 6.1's verifier refuses */

		if (!w)
			return PP_NO_MAP;
		pud = pud_entry(base, pgd, w->address);
		slot = base + (pud & FRAME) + ((w->address >> 21) & 511) * 8;
		READ(pmd, slot);
		pmd &= is_table(pud);
		table = is_table(pmd);
		bpf_probe_read_kernel(run, sizeof(*run), (void *)(base + (pmd & FRAME) + ((w->address >> 12) & 511) * 8));
		READ(again, slot);
		again &= is_table(pud);
		count_window(w, run);

		gib = is_leaf(pud);
		chunk = is_leaf(pmd);
		leaf = (pud & gib) | (pmd & chunk);
		w->present = (w->present & table) | gib | chunk;
		w->young = (w->young & table) | ((gib | chunk) & ALL_IF(leaf >> 5));
		w->level = BIT_IF(table, PP_LEVEL_PAGE) | BIT_IF(chunk, PP_LEVEL_CHUNK) | BIT_IF(gib, PP_LEVEL_GIB) |
			   BIT_IF(differ(pmd, again), PP_LEVEL_LOST);
	}
	return finish(r, mm, exec_id);
}

int copy_page_tables(void *ctx)
{
	int zero = 0;
	struct pp_request *r = request.lookup(&zero);

	if (!r)
		return PP_NO_MAP;
	find_target(r);
	u64 base = r->base, pgd = r->pgd, mm = r->mm, exec_id = r->exec_id, at = r->start;

	if (!pgd)
		return PP_GONE;
	for (u32 i = 0; i < PP_TABLES; i++, at += 1ULL << 21) {
		u32 index = i;
		u64 pud, pmd = 0, again = 0, slot;

		if (i >= COUNT(r))
			break;
		struct pp_table *table = tables.lookup(&index);
		u64 *parent = parents.lookup(&index);

		if (!table || !parent)
			return PP_NO_MAP;
		pud = pud_entry(base, pgd, at);
		slot = base + (pud & FRAME) + ((at >> 21) & 511) * 8;
		READ(pmd, slot);
		pmd &= is_table(pud);
		if (pmd & is_table(pmd))
			bpf_probe_read_kernel(table, sizeof(*table), (void *)(base + (pmd & FRAME)));
		READ(again, slot);
		again &= is_table(pud);
		/* A 1 GiB leaf is reported as it is; a table that was replaced as ~0, which no entry ever is. */
		*parent = (pud & is_leaf(pud)) | pmd | differ(pmd, again);
	}
	return finish(r, mm, exec_id);
}

int copy_middle_tables(void *ctx)
{
	int zero = 0;
	struct pp_request *r = request.lookup(&zero);

	if (!r)
		return PP_NO_MAP;
	find_target(r);
	u64 base = r->base, pgd = r->pgd, mm = r->mm, exec_id = r->exec_id, at = r->start;

	if (!pgd)
		return PP_GONE;
	for (u32 i = 0; i < PP_TABLES; i++, at += 1ULL << 30) {
		u32 index = i;
		u64 pud;

		if (i >= COUNT(r))
			break;
		struct pp_table *table = tables.lookup(&index);
		u64 *parent = parents.lookup(&index);

		if (!table || !parent)
			return PP_NO_MAP;
		pud = pud_entry(base, pgd, at);
		if (pud & is_table(pud))
			bpf_probe_read_kernel(table, sizeof(*table), (void *)(base + (pud & FRAME)));
		*parent = pud;
	}
	return finish(r, mm, exec_id);
}
