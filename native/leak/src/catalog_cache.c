/* SPDX-License-Identifier: MIT */
#define _GNU_SOURCE
#include "catalog_cache.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define NSEC_PER_SEC 1000000000ULL
#define RECORD_BYTES 512

/*
 * The functions of the refresh path keep their names and frames, so that a profiler sees the path a person reads in
 * this file. At -O2 the compiler otherwise inlines all of it into the thread's start routine. The barrier keeps the
 * last call of a function from becoming a jump, which would drop the function from the stack.
 */
#define KEEP_FRAME __attribute__((noinline, noclone, used, visibility("default")))
#define KEEP_CALL() __asm__ volatile("" ::: "memory")

struct catalog_entry {
	struct catalog_entry *superseded; /* the entry inserted before this one */
	uint64_t shard;                   /* which page of the catalog: item id modulo the shards */
	uint64_t revision;
	uint64_t bytes;
};

struct catalog_cache {
	struct catalog_options options;
	_Atomic(struct catalog_entry *) newest;
	_Atomic uint64_t inserts_begun, inserts, insert_failures, insert_bytes, refreshes;

	pthread_mutex_t idle_lock;
	struct catalog_idle idle[CATALOG_IDLE_KEPT]; /* a ring: interval i is at i modulo its size */
	uint64_t n_idle;
	int refreshing;

	pthread_mutex_t control; /* start and stop, one at a time */
	int started;
	pthread_t thread;

	pthread_mutex_t wake_lock;
	pthread_cond_t wake;
	int stopping;
};

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * NSEC_PER_SEC + (uint64_t)now.tv_nsec;
}

static void end_idle(struct catalog_cache *cache)
{
	pthread_mutex_lock(&cache->idle_lock);
	cache->idle[(cache->n_idle - 1) % CATALOG_IDLE_KEPT].until_ns = now_ns();
	cache->refreshing = 1;
	pthread_mutex_unlock(&cache->idle_lock);
}

static void begin_idle(struct catalog_cache *cache)
{
	pthread_mutex_lock(&cache->idle_lock);
	cache->idle[cache->n_idle++ % CATALOG_IDLE_KEPT] = (struct catalog_idle){
		.since_ns = now_ns(),
		.inserts = atomic_load(&cache->inserts),
		.insert_bytes = atomic_load(&cache->insert_bytes),
	};
	cache->refreshing = 0;
	pthread_mutex_unlock(&cache->idle_lock);
}

KEEP_FRAME struct catalog_entry *catalog_cache_insert(struct catalog_cache *cache, uint64_t shard, uint64_t revision)
{
	const uint64_t bytes = cache->options.chunk_bytes;

	atomic_fetch_add(&cache->inserts_begun, 1);
	struct catalog_entry *entry = malloc(bytes);
	if (!entry) {
		atomic_fetch_add(&cache->insert_failures, 1);
		return NULL;
	}
	memset(entry, (int)(revision | 1), bytes); /* every page written, so every page is resident */
	entry->shard = shard;
	entry->revision = revision;
	entry->bytes = bytes;
	/* One writer, the refresh thread. Readers follow `superseded` of entries that never change again. */
	entry->superseded = atomic_load_explicit(&cache->newest, memory_order_relaxed);
	atomic_store_explicit(&cache->newest, entry, memory_order_release);
	atomic_fetch_add(&cache->insert_bytes, bytes);
	atomic_fetch_add(&cache->inserts, 1);
	KEEP_CALL();
	return entry;
}

KEEP_FRAME void catalog_cache_refresh(struct catalog_cache *cache)
{
	const uint64_t revision = atomic_load(&cache->refreshes) + 1;
	const uint64_t shards = cache->options.refresh_bytes / cache->options.chunk_bytes;

	end_idle(cache);
	for (uint64_t shard = 0; shard < shards; shard++) {
		if (atomic_load(&cache->insert_bytes) + cache->options.chunk_bytes > cache->options.cap_bytes)
			break;
		if (!catalog_cache_insert(cache, shard, revision))
			break; /* no memory now: the next refresh tries again */
	}
	/* The revision before this one is superseded as a whole, and this is where it ought to be freed. */
	atomic_fetch_add(&cache->refreshes, 1);
	begin_idle(cache);
	KEEP_CALL();
}

static void add_ns(struct timespec *t, uint64_t ns)
{
	ns += (uint64_t)t->tv_nsec;
	t->tv_sec += (time_t)(ns / NSEC_PER_SEC);
	t->tv_nsec = (long)(ns % NSEC_PER_SEC);
}

/* True when `deadline` came, false when the cache is to stop. */
static int wait_until(struct catalog_cache *cache, const struct timespec *deadline)
{
	int expired = 0;

	pthread_mutex_lock(&cache->wake_lock);
	while (!cache->stopping && !expired)
		expired = pthread_cond_timedwait(&cache->wake, &cache->wake_lock, deadline) == ETIMEDOUT;
	int stopping = cache->stopping;
	pthread_mutex_unlock(&cache->wake_lock);
	return !stopping;
}

KEEP_FRAME void *catalog_cache_worker(void *argument)
{
	struct catalog_cache *cache = argument;
	struct timespec deadline;

	pthread_setname_np(pthread_self(), "cache-refresh");
	/* Deadlines are counted from the start, not from the last refresh, so that the schedule does not drift. */
	clock_gettime(CLOCK_MONOTONIC, &deadline);
	add_ns(&deadline, cache->options.start_delay_ns);
	while (wait_until(cache, &deadline)) {
		catalog_cache_refresh(cache);
		add_ns(&deadline, cache->options.period_ns);
	}
	KEEP_CALL();
	return NULL;
}

struct catalog_cache *catalog_cache_open(const struct catalog_options *options)
{
	pthread_condattr_t monotonic;
	struct catalog_cache *cache = calloc(1, sizeof(*cache));

	if (!cache)
		return NULL;
	cache->options = *options;
	pthread_mutex_init(&cache->idle_lock, NULL);
	begin_idle(cache);
	pthread_mutex_init(&cache->control, NULL);
	pthread_mutex_init(&cache->wake_lock, NULL);
	pthread_condattr_init(&monotonic);
	pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
	pthread_cond_init(&cache->wake, &monotonic);
	pthread_condattr_destroy(&monotonic);
	return cache;
}

int catalog_cache_start(struct catalog_cache *cache)
{
	int error;

	pthread_mutex_lock(&cache->control);
	if (cache->started) {
		error = EALREADY;
	} else {
		cache->stopping = 0;
		error = pthread_create(&cache->thread, NULL, catalog_cache_worker, cache);
		cache->started = !error;
	}
	pthread_mutex_unlock(&cache->control);
	return error;
}

int catalog_cache_stop(struct catalog_cache *cache)
{
	int error = 0;

	pthread_mutex_lock(&cache->control);
	if (cache->started) {
		pthread_mutex_lock(&cache->wake_lock);
		cache->stopping = 1;
		pthread_cond_signal(&cache->wake);
		pthread_mutex_unlock(&cache->wake_lock);
		error = pthread_join(cache->thread, NULL);
		cache->started = 0;
	}
	pthread_mutex_unlock(&cache->control);
	return error;
}

void catalog_cache_close(struct catalog_cache *cache)
{
	if (!cache)
		return;
	catalog_cache_stop(cache);
	for (struct catalog_entry *entry = atomic_load(&cache->newest), *next; entry; entry = next) {
		next = entry->superseded;
		free(entry);
	}
	pthread_cond_destroy(&cache->wake);
	pthread_mutex_destroy(&cache->wake_lock);
	pthread_mutex_destroy(&cache->control);
	pthread_mutex_destroy(&cache->idle_lock);
	free(cache);
}

/*
 * Reads the header of each record of an entry, eight to a memory page. One read a page would be answered by the L3 cache
 * of a large machine: 450 MiB took 1.0 ms then, and 4.8 with four, which is no more than a busy service's lookup.
 */
static uint64_t touch_pages(const struct catalog_entry *entry)
{
	const volatile unsigned char *bytes = (const volatile unsigned char *)entry;
	uint64_t sum = 0;

	for (uint64_t at = 0; at < entry->bytes; at += RECORD_BYTES)
		sum += bytes[at];
	return sum;
}

uint64_t catalog_cache_lookup(struct catalog_cache *cache, uint64_t item, int all_revisions)
{
	const uint64_t shard = item % (cache->options.refresh_bytes / cache->options.chunk_bytes);
	uint64_t newest = 0;

	for (const struct catalog_entry *entry = atomic_load_explicit(&cache->newest, memory_order_acquire); entry;
	     entry = entry->superseded) {
		if (all_revisions)
			(void)touch_pages(entry);
		if (entry->shard == shard && entry->revision > newest)
			newest = entry->revision;
		if (newest && !all_revisions)
			break;
	}
	return newest;
}

void catalog_cache_read_ledger(struct catalog_cache *cache, struct catalog_ledger *ledger)
{
	/* `begun` is read last: a reader who finds it equal to the finished ones has seen no insert half done. */
	ledger->insert_failures = atomic_load(&cache->insert_failures);
	ledger->inserts = atomic_load(&cache->inserts);
	ledger->insert_bytes = atomic_load(&cache->insert_bytes);
	ledger->refreshes = atomic_load(&cache->refreshes);
	ledger->entries_live = ledger->inserts; /* nothing is freed while the cache is open */
	ledger->bytes_live = ledger->insert_bytes;
	ledger->inserts_begun = atomic_load(&cache->inserts_begun);
}

uint64_t catalog_cache_read_idle(struct catalog_cache *cache, struct catalog_idle *idle, uint64_t capacity)
{
	pthread_mutex_lock(&cache->idle_lock);
	const uint64_t kept = cache->n_idle < CATALOG_IDLE_KEPT ? cache->n_idle : CATALOG_IDLE_KEPT;
	const uint64_t count = kept < capacity ? kept : capacity;

	for (uint64_t i = 0; i < count; i++)
		idle[i] = cache->idle[(cache->n_idle - 1 - i) % CATALOG_IDLE_KEPT];
	if (count && !cache->refreshing)
		idle[0].until_ns = now_ns();
	pthread_mutex_unlock(&cache->idle_lock);
	return count;
}
