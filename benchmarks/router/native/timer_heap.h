/* When what is due: a binary heap of points in time, earliest first.

   An entry names a connection and its epoch at the time; whoever takes it out compares epochs, so
   nothing is ever removed from the middle. */
#ifndef TIMER_HEAP_H
#define TIMER_HEAP_H

#include <stdint.h>
#include <stdlib.h>

struct timer {
  uint64_t due_ns;
  void *target;
  uint32_t epoch;
};

struct timer_heap {
  struct timer *entries;
  size_t length, capacity;
};

static inline void timer_push(struct timer_heap *heap, struct timer entry) {
  if (heap->length == heap->capacity) {
    heap->capacity = heap->capacity ? 2 * heap->capacity : 1024;
    heap->entries = realloc(heap->entries, heap->capacity * sizeof *heap->entries);
    if (!heap->entries) abort();
  }
  size_t at = heap->length++;
  for (size_t parent; at && heap->entries[parent = (at - 1) / 2].due_ns > entry.due_ns; at = parent)
    heap->entries[at] = heap->entries[parent];
  heap->entries[at] = entry;
}

/* The earliest entry, taken out; the heap must have one. */
static inline struct timer timer_pop(struct timer_heap *heap) {
  struct timer first = heap->entries[0], last = heap->entries[--heap->length];
  size_t at = 0;
  for (size_t child; (child = 2 * at + 1) < heap->length; at = child) {
    if (child + 1 < heap->length &&
        heap->entries[child + 1].due_ns < heap->entries[child].due_ns)
      child++;
    if (heap->entries[child].due_ns >= last.due_ns) break;
    heap->entries[at] = heap->entries[child];
  }
  heap->entries[at] = last;
  return first;
}

#endif
