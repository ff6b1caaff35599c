/* A prefix cache of a bounded number of blocks: which chained hashes are there, least recently used
   ones leave first. Hash table with chains and a doubly linked list through one array of slots. */
#ifndef BLOCK_CACHE_H
#define BLOCK_CACHE_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define NO_SLOT (-1)

struct slot {
  uint64_t hash;
  int chain;         /* next slot of the same bucket */
  int newer, older;  /* neighbours in the order of use */
};

struct block_cache {
  struct slot *slots;
  int *buckets;
  int capacity, used, mask, newest, oldest;
};

static inline void cache_init(struct block_cache *cache, int capacity) {
  int num_buckets = 1;
  while (num_buckets < 2 * capacity) num_buckets *= 2;
  free(cache->slots);
  free(cache->buckets);
  cache->slots = calloc((size_t)capacity + 1, sizeof *cache->slots);
  cache->buckets = malloc((size_t)num_buckets * sizeof *cache->buckets);
  if (!cache->slots || !cache->buckets) abort();
  memset(cache->buckets, 0xff, (size_t)num_buckets * sizeof *cache->buckets); /* NO_SLOT */
  cache->capacity = capacity;
  cache->used = 0;
  cache->mask = num_buckets - 1;
  cache->newest = cache->oldest = NO_SLOT;
}

static inline int cache_find(const struct block_cache *cache, uint64_t hash) {
  int at = cache->buckets[hash & (uint64_t)cache->mask];
  while (at != NO_SLOT && cache->slots[at].hash != hash) at = cache->slots[at].chain;
  return at;
}

static inline void cache_unlink(struct block_cache *cache, int at) {
  struct slot *slot = &cache->slots[at];
  if (slot->newer != NO_SLOT) cache->slots[slot->newer].older = slot->older;
  else cache->newest = slot->older;
  if (slot->older != NO_SLOT) cache->slots[slot->older].newer = slot->newer;
  else cache->oldest = slot->newer;
}

static inline void cache_link_newest(struct block_cache *cache, int at) {
  struct slot *slot = &cache->slots[at];
  slot->newer = NO_SLOT;
  slot->older = cache->newest;
  if (cache->newest != NO_SLOT) cache->slots[cache->newest].newer = at;
  cache->newest = at;
  if (cache->oldest == NO_SLOT) cache->oldest = at;
}

/* Make a block the most recently used one, whether it was there or not. */
static inline void cache_use(struct block_cache *cache, uint64_t hash) {
  if (cache->capacity == 0) return;
  int at = cache_find(cache, hash);
  if (at != NO_SLOT) {
    cache_unlink(cache, at);
    cache_link_newest(cache, at);
    return;
  }
  if (cache->used < cache->capacity) {
    at = cache->used++;
  } else {
    at = cache->oldest;
    cache_unlink(cache, at);
    int *link = &cache->buckets[cache->slots[at].hash & (uint64_t)cache->mask];
    while (*link != at) link = &cache->slots[*link].chain;
    *link = cache->slots[at].chain;
  }
  int *bucket = &cache->buckets[hash & (uint64_t)cache->mask];
  cache->slots[at].hash = hash;
  cache->slots[at].chain = *bucket;
  *bucket = at;
  cache_link_newest(cache, at);
}

/* How many leading blocks of a text are cached; afterwards all of its full blocks are. The hash is
   FNV-1a (Fowler, Noll, Vo), and each covers everything before its block's end. */
static inline int cache_look_up(struct block_cache *cache, const char *text, size_t length,
                                size_t block_chars, int *num_blocks) {
  size_t count = length / block_chars;
  uint64_t *hashes = malloc((count + 1) * sizeof *hashes);
  if (!hashes) abort();
  uint64_t hash = 0xcbf29ce484222325u;
  for (size_t block = 0; block < count; block++) {
    for (size_t i = block * block_chars; i < (block + 1) * block_chars; i++)
      hash = (hash ^ (unsigned char)text[i]) * 0x100000001b3u;
    hashes[block] = hash;
  }
  size_t cached = 0;
  while (cached < count && cache_find(cache, hashes[cached]) != NO_SLOT) cached++;
  for (size_t block = count; block-- > 0;) cache_use(cache, hashes[block]); /* tails leave first */
  free(hashes);
  *num_blocks = (int)count;
  return (int)cached;
}

#endif
