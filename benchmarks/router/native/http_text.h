/* The little of HTTP/1.1 that a benchmark's own client and server must read of each other. */
#ifndef HTTP_TEXT_H
#define HTTP_TEXT_H

#define _GNU_SOURCE
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

static inline uint64_t now_ns(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

/* Where the value of a header begins, or NULL. `head` ends at `end`, before its empty line. */
static inline const char *header_value(const char *head, const char *end, const char *name) {
  size_t name_length = strlen(name);
  const char *line = memchr(head, '\n', (size_t)(end - head));
  while (line && ++line < end) {
    if ((size_t)(end - line) > name_length && line[name_length] == ':' &&
        !strncasecmp(line, name, name_length)) {
      const char *value = line + name_length + 1;
      while (value < end && *value == ' ') value++;
      return value;
    }
    line = memchr(line, '\n', (size_t)(end - line));
  }
  return NULL;
}

/* Bytes of a chunked body from its start to the end of its last chunk; 0: not all there yet. */
static inline size_t chunked_length(const char *body, size_t length) {
  size_t at = 0;
  while (at < length) {
    const char *line_end = memmem(body + at, length - at, "\r\n", 2);
    if (!line_end) return 0;
    size_t chunk = strtoul(body + at, NULL, 16);
    at = (size_t)(line_end - body) + 2 + chunk + 2;
    if (at > length) return 0;
    if (chunk == 0) return at;
  }
  return 0;
}

#endif
