/* SPDX-License-Identifier: MIT */
/*
 * A catalog cache that a background thread keeps fresh.
 *
 * Every refresh inserts a new revision of each catalog page. The old revisions are superseded, and here is the fault
 * this lab is about: nothing ever frees them.
 */
#ifndef CATALOG_CACHE_H
#define CATALOG_CACHE_H

#include <stdint.h>

struct catalog_options {
	uint64_t chunk_bytes;    /* size of one entry, its header included */
	uint64_t refresh_bytes;  /* bytes inserted by one refresh: a multiple of chunk_bytes */
	uint64_t cap_bytes;      /* no insert takes the live bytes above this */
	uint64_t start_delay_ns; /* from start to the first refresh */
	uint64_t period_ns;      /* from one refresh to the next */
};

/*
 * What the cache really did, exact to the byte. `inserts_begun` runs ahead of `inserts + insert_failures` only while
 * an insert is under way: two equal readings around an event prove that no insert overlapped it.
 */
struct catalog_ledger {
	uint64_t inserts_begun;
	uint64_t inserts;
	uint64_t insert_failures;
	uint64_t insert_bytes;
	uint64_t entries_live;
	uint64_t bytes_live;
	uint64_t refreshes;
};

/*
 * A time, in ns of CLOCK_MONOTONIC, in which no refresh was under way, and the counts throughout it.
 * Another counter of the same inserts, read at a moment in it, must show the same numbers.
 */
struct catalog_idle {
	uint64_t since_ns;
	uint64_t until_ns;
	uint64_t inserts;
	uint64_t insert_bytes;
};

#define CATALOG_IDLE_KEPT 128

struct catalog_cache;

/* NULL with errno set when there is no memory for the cache itself. */
struct catalog_cache *catalog_cache_open(const struct catalog_options *options);

/* Both return 0 or an errno value, and both may be repeated: starting a running cache is EALREADY, stopping a stopped
 * one is 0. What has been inserted stays through a stop and the ledger goes on after a restart. */
int catalog_cache_start(struct catalog_cache *cache);
int catalog_cache_stop(struct catalog_cache *cache);

/* Stops, frees every entry and the cache. The caller sees to it that no lookup is under way. */
void catalog_cache_close(struct catalog_cache *cache);

/*
 * The newest revision of the page that holds `item`, 0 before the first refresh. With `all_revisions` the newest is
 * found by reading every page of every revision still held instead of trusting the order they were inserted in: the
 * cost grows with what should have been freed.
 */
uint64_t catalog_cache_lookup(struct catalog_cache *cache, uint64_t item, int all_revisions);

void catalog_cache_read_ledger(struct catalog_cache *cache, struct catalog_ledger *ledger);

/* The newest `capacity` idle intervals, newest first; the one that still lasts ends now. Returns how many there are. */
uint64_t catalog_cache_read_idle(struct catalog_cache *cache, struct catalog_idle *idle, uint64_t capacity);

#endif
