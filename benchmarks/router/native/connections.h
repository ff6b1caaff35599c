/* What a mock worker is told and counts, and its connections: buffers, sending, closing. */
#ifndef CONNECTIONS_H
#define CONNECTIONS_H

#include "http_text.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

struct bytes {
  char *at;
  size_t length, capacity;
};

struct connection {
  int fd; /* -1: free */
  uint32_t epoch;
  struct bytes in, out;
  bool answering, streaming, chat, with_usage, begun, writable_wanted;
  int num_tokens, num_sent, prompt_blocks, cached_blocks;
  unsigned long number;
  struct connection *next_free;
};

static struct {
  int port, cache_blocks, block_chars;
  double ttft_ms, itl_ms, prefill_us;
  const char *id, *model;
} settings = {.port = 9001, .cache_blocks = 100000, .block_chars = 64, .id = "w", .model = "mock"};

static struct {
  unsigned long requests, answers, tokens, prompt_blocks, cached_blocks, running;
} counts;

static int poller, listener = -1;
static struct connection *free_connections;
static volatile sig_atomic_t stopping;

static void reserve(struct bytes *bytes, size_t more) {
  if (bytes->length + more <= bytes->capacity) return;
  bytes->capacity = 2 * (bytes->length + more);
  bytes->at = realloc(bytes->at, bytes->capacity);
  if (!bytes->at) abort();
}

static void close_connection(struct connection *c) {
  if (c->answering) counts.running--;
  close(c->fd);
  c->fd = -1;
  c->epoch++;
  c->answering = c->writable_wanted = false;
  c->in.length = c->out.length = 0;
  c->next_free = free_connections;
  free_connections = c;
}

static void watch(struct connection *c, int operation) {
  struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
  if (c->writable_wanted) event.events |= EPOLLOUT;
  epoll_ctl(poller, operation, c->fd, &event);
}

/* Send what is held; false when the connection is gone. */
static bool flush(struct connection *c) {
  size_t sent = 0;
  while (sent < c->out.length) {
    ssize_t n = send(c->fd, c->out.at + sent, c->out.length - sent, MSG_NOSIGNAL);
    if (n < 0 && errno == EAGAIN) break;
    if (n < 0) {
      close_connection(c);
      return false;
    }
    sent += (size_t)n;
  }
  memmove(c->out.at, c->out.at + sent, c->out.length - sent);
  c->out.length -= sent;
  if (c->writable_wanted != (c->out.length > 0)) {
    c->writable_wanted = c->out.length > 0;
    watch(c, EPOLL_CTL_MOD);
  }
  return true;
}

static void append(struct connection *c, const char *text, size_t length) {
  reserve(&c->out, length);
  memcpy(c->out.at + c->out.length, text, length);
  c->out.length += length;
}

static bool reply(struct connection *c, int status, const char *type, const char *body, size_t n) {
  char head[512];
  int length = snprintf(head, sizeof head,
                        "HTTP/1.1 %d %s\r\ncontent-type: %s\r\ncontent-length: %zu\r\n%s\r\n",
                        status, status == 200 ? "OK" : "Error", type, n,
                        stopping ? "connection: close\r\n" : "");
  append(c, head, (size_t)length);
  append(c, body, n);
  return flush(c);
}

#endif
