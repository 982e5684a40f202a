/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The probes: what reading page tables cannot see.
 *
 *   faults   page faults of the target, counted for each window of 64 pages. From handle_mm_fault by kprobe, or, on a
 *            kernel without kprobes, from the raw tracepoint page_fault_user.
 *   taken    accessed bits that another agent (reclaim, MGLRU, DAMON, idle page tracking, clear_refs) clears under us,
 *            kept for each window as a mask, of one target or of many. By kprobe only.
 *
 * Everything is filtered here, by the target's mm or process, and counted here. Of each table there are two: Python has
 * the programs write to the other one, waits until nobody is left in the first, and takes it out. To delete from a table
 * that is written to would lose what a program adds to an entry that was just handed over, or give it to another window.
 * What does not fit is counted as lost.
 */
#include <linux/types.h>
#include <linux/ptrace.h>
#include "pagepulse.h"

#define TARGETS 8192 /* processes whose accessed bits are kept at the same time */

BPF_F_TABLE("array", u32, struct pp_filter, filter, 1, 1024); /* 1024 = BPF_F_MMAPABLE */
BPF_F_TABLE("array", u32, struct pp_loss, loss, 1, 1024);
BPF_TABLE("hash", u64, u64, faults0, PP_FAULTS); /* window address -> faults */
BPF_TABLE("hash", u64, u64, faults1, PP_FAULTS);
BPF_TABLE("hash", u64, u64, watched, TARGETS); /* mm -> number of the target, less than the bytes of a window */
BPF_TABLE("hash", u64, u64, taken0, PP_TAKEN); /* window address + number of the target -> mask of pages */
BPF_TABLE("hash", u64, u64, taken1, PP_TAKEN);

#define READ(to, from) bpf_probe_read_kernel(&(to), sizeof(to), (void *)(from))
#define WINDOW_MASK (~((u64)PP_WINDOW_PAGES * 4096 - 1))
#define CHUNK_MASK (~((u64)PP_TABLE_PAGES * 4096 - 1))
#define ACCESSED 0x20ULL

#define TRIES 3
#define NOWHERE 2

/*
 * Which of two tables to write to: 0, 1, or NOWHERE, if they changed under us each time. Python never changes again before
 * all who came into the old one are out of it; one that came too late sees the change here. The locked additions are
 * full barriers.
 */
static __always_inline u32 enter(volatile u32 *epoch, u64 *begun, u64 *done)
{
#pragma unroll
	for (int i = 0; i < TRIES; i++) {
		u32 now = *epoch & 1;

		__sync_fetch_and_add(&begun[now], 1);
		if ((*epoch & 1) == now)
			return now;
		__sync_fetch_and_add(&done[now], 1);
	}
	return NOWHERE;
}

static __always_inline void count_fault(struct pp_filter *f, u64 address)
{
	int zero = 0;
	u64 window = address & WINDOW_MASK, nothing = 0, *count;
	struct pp_loss *l = loss.lookup(&zero);

	if (!l)
		return;
	u32 now = enter(&f->faults_epoch, l->faults_begun, l->faults_done);

	if (now == NOWHERE) {
		__sync_fetch_and_add(&l->faults, 1);
		return;
	}
	if (now)
		count = faults1.lookup_or_try_init(&window, &nothing);
	else
		count = faults0.lookup_or_try_init(&window, &nothing);
	if (count)
		__sync_fetch_and_add(count, 1);
	else
		__sync_fetch_and_add(&l->faults, 1);
	__sync_fetch_and_add(&l->faults_done[now & 1], 1);
}

static __always_inline void keep_taken(struct pp_filter *f, u64 key, u64 mask)
{
	int zero = 0;
	u64 nothing = 0, *kept;
	struct pp_loss *l = loss.lookup(&zero);

	if (!l)
		return;
	u32 now = enter(&f->taken_epoch, l->taken_begun, l->taken_done);

	if (now == NOWHERE) {
		__sync_fetch_and_add(&l->taken, 1);
		return;
	}
	if (now)
		kept = taken1.lookup_or_try_init(&key, &nothing);
	else
		kept = taken0.lookup_or_try_init(&key, &nothing);
	/* Agents hold the page table's lock, and a window lies in one page table: no other writer at the same time. */
	if (kept)
		*kept |= mask;
	else
		__sync_fetch_and_add(&l->taken, 1);
	__sync_fetch_and_add(&l->taken_done[now & 1], 1);
}

/*
 * Does this vm_area_struct belong to a target, and is it not we who clear it on purpose? Where there is one target alone,
 * its number is 0, and others are told from it without a table.
 */
static __always_inline int others_clear(struct pp_filter *f, u64 vma, u64 *number)
{
	u64 mm = 0, *found;

	READ(mm, vma + VMA_MM);
	if (f->mm) {
		if (mm != f->mm)
			return 0;
		*number = 0;
	} else {
		found = watched.lookup(&mm);
		if (!found)
			return 0;
		*number = *found;
	}
	return (u32)bpf_get_current_pid_tgid() != f->self;
}

/* exceptions:page_fault_user, TP_PROTO(unsigned long address, struct pt_regs *regs, unsigned long error_code) */
int on_page_fault_user(struct bpf_raw_tracepoint_args *ctx)
{
	int zero = 0;
	struct pp_filter *f = filter.lookup(&zero);

	if (f && f->tgid && (u32)(bpf_get_current_pid_tgid() >> 32) == f->tgid)
		count_fault(f, ctx->args[0]);
	return 0;
}

/* vm_fault_t handle_mm_fault(struct vm_area_struct *vma, unsigned long address, unsigned int flags, struct pt_regs *regs) */
int on_handle_mm_fault(struct pt_regs *ctx)
{
	int zero = 0;
	u64 mm = 0;
	struct pp_filter *f = filter.lookup(&zero);

	READ(mm, PT_REGS_PARM1(ctx) + VMA_MM);
	if (f && mm && mm == f->mm)
		count_fault(f, PT_REGS_PARM2(ctx));
	return 0;
}

/* int ptep_test_and_clear_young(struct vm_area_struct *vma, unsigned long addr, pte_t *ptep), and ptep_clear_flush_young */
int on_pte_clear_young(struct pt_regs *ctx)
{
	int zero = 0;
	u64 pte = 0, number = 0, address = PT_REGS_PARM2(ctx);
	struct pp_filter *f = filter.lookup(&zero);

	if (!f || !others_clear(f, PT_REGS_PARM1(ctx), &number))
		return 0;
	READ(pte, PT_REGS_PARM3(ctx));
	if (pte & ACCESSED)
		keep_taken(f, (address & WINDOW_MASK) + number, 1ULL << ((address >> 12) & (PP_WINDOW_PAGES - 1)));
	return 0;
}

/* int pmdp_test_and_clear_young(struct vm_area_struct *vma, unsigned long addr, pmd_t *pmdp), and pmdp_clear_flush_young */
int on_pmd_clear_young(struct pt_regs *ctx)
{
	int zero = 0;
	u64 pmd = 0, number = 0, address = PT_REGS_PARM2(ctx) & CHUNK_MASK;
	struct pp_filter *f = filter.lookup(&zero);

	if (!f || !others_clear(f, PT_REGS_PARM1(ctx), &number))
		return 0;
	READ(pmd, PT_REGS_PARM3(ctx));
	if (!(pmd & ACCESSED) || !(pmd & 0x80)) /* no leaf: the bit of a table says nothing of one page */
		return 0;
#pragma unroll
	for (int i = 0; i < PP_TABLE_PAGES / PP_WINDOW_PAGES; i++)
		keep_taken(f, address + number + i * PP_WINDOW_PAGES * 4096, ~0ULL);
	return 0;
}
