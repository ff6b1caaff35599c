/* An OpenAI-compatible worker without a model, cheap enough to stand behind any router: one process,
   epoll, no dependencies (some 20 us a request, both sides of the loopback included).

     mock_worker --port 9001 --id w1 [--model NAME] [--ttft-ms 50] [--itl-ms 20] [--prefill-us 0]
                 [--cache-blocks 100000] [--block-chars 64]

   An answer is " tok0 tok1 ...". The first token comes after ttft-ms and prefill-us for each block of
   the prompt that is not in the prefix cache, the others itl-ms apart. Every answer names the worker
   in `system_fingerprint`. SIGTERM: no new connections, what runs is finished, then the end.

   GET /stats   counts, as JSON
   GET /ctl?reset=1&cache_blocks=N&ttft_ms=X&itl_ms=X   empties the cache and the counts, sets costs */
#include "routes.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/prctl.h>

#define DRAIN_NS 10000000000u
#define TIMER_SLACK_NS 20000u /* due so soon is due now: one system call less */

static void on_stop(int number) {
  (void)number;
  stopping = 1;
}

static void accept_all(void) {
  for (int fd; (fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0;) {
    int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    struct connection *c = free_connections;
    if (c) free_connections = c->next_free;
    else if (!(c = calloc(1, sizeof *c))) abort();
    c->fd = fd;
    watch(c, EPOLL_CTL_ADD);
  }
}

static void receive(struct connection *c) {
  for (;;) {
    reserve(&c->in, 4096);
    size_t room = c->in.capacity - c->in.length - 1; /* and a zero, for strstr and strtoul */
    ssize_t n = recv(c->fd, c->in.at + c->in.length, room, 0);
    if (n == 0 || (n < 0 && errno != EAGAIN)) {
      close_connection(c);
      return;
    }
    if (n < 0) break;
    c->in.length += (size_t)n;
    c->in.at[c->in.length] = 0;
    if ((size_t)n < room) break;
  }
  process(c);
}

static void run_timers(void) {
  uint64_t now = now_ns();
  while (timers.length && timers.entries[0].due_ns <= now + TIMER_SLACK_NS) {
    struct timer timer = timer_pop(&timers);
    struct connection *c = timer.target;
    if (timer.epoch != c->epoch) continue;
    if (!advance(c)) {
      /* From the planned time, not from now: a late timer makes no stream slower. */
      plan(c, timer.due_ns + (uint64_t)(settings.itl_ms * 1e6));
      continue;
    }
    answered(c);
    process(c);
  }
}

static int parse(int argc, char **argv) {
  for (int i = 1; i + 1 < argc; i += 2) {
    const char *name = argv[i], *value = argv[i + 1];
    if (!strcmp(name, "--port")) settings.port = atoi(value);
    else if (!strcmp(name, "--id")) settings.id = value;
    else if (!strcmp(name, "--model")) settings.model = value;
    else if (!strcmp(name, "--ttft-ms")) settings.ttft_ms = atof(value);
    else if (!strcmp(name, "--itl-ms")) settings.itl_ms = atof(value);
    else if (!strcmp(name, "--prefill-us")) settings.prefill_us = atof(value);
    else if (!strcmp(name, "--cache-blocks")) settings.cache_blocks = atoi(value);
    else if (!strcmp(name, "--block-chars")) settings.block_chars = atoi(value);
    else {
      fprintf(stderr, "mock_worker: no option %s\n", name);
      return 2;
    }
  }
  return 0;
}

static int listen_on(int port) {
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1;
  setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  struct sockaddr_in address = {.sin_family = AF_INET,
                                .sin_port = htons((uint16_t)port),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  if (bind(fd, (struct sockaddr *)&address, sizeof address) || listen(fd, 4096)) {
    perror("mock_worker: cannot listen");
    exit(1);
  }
  return fd;
}

int main(int argc, char **argv) {
  if (parse(argc, argv)) return 2;
  prctl(PR_SET_PDEATHSIG, SIGKILL); /* not longer than the benchmark */
  struct sigaction stop = {.sa_handler = on_stop};
  sigaction(SIGTERM, &stop, NULL);
  sigaction(SIGINT, &stop, NULL);
  sigset_t blocked, while_waiting;
  sigemptyset(&blocked);
  sigaddset(&blocked, SIGTERM);
  sigaddset(&blocked, SIGINT);
  sigprocmask(SIG_BLOCK, &blocked, &while_waiting); /* they arrive only in epoll_pwait2 */
  cache_init(&cache, settings.cache_blocks);
  listener = listen_on(settings.port);
  poller = epoll_create1(EPOLL_CLOEXEC);
  struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
  epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event);

  uint64_t end_ns = 0;
  int n = 0;
  struct epoll_event events[256];
  for (;;) {
    if (stopping && listener >= 0) {
      accept_all(); /* a connection in the backlog would be reset */
      close(listener);
      listener = -1;
      end_ns = now_ns() + DRAIN_NS;
    }
    /* What was under way on open connections has been read when a wait brings nothing. */
    else if (stopping && ((counts.running == 0 && n == 0) || now_ns() > end_ns)) return 0;
    int64_t wait_ns = stopping ? 10000000 : 3600000000000;
    if (timers.length) {
      int64_t until_ns = (int64_t)(timers.entries[0].due_ns - now_ns());
      if (until_ns < wait_ns) wait_ns = until_ns < 0 ? 0 : until_ns;
    }
    struct timespec wait = {.tv_sec = wait_ns / 1000000000, .tv_nsec = wait_ns % 1000000000};
    n = epoll_pwait2(poller, events, 256, &wait, &while_waiting);
    for (int i = 0; i < n; i++) {
      struct connection *c = events[i].data.ptr;
      if (!c) {
        if (listener >= 0) accept_all();
        continue;
      }
      if (c->fd < 0) continue;
      if ((events[i].events & EPOLLOUT) && !flush(c)) continue;
      if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) receive(c);
    }
    run_timers();
  }
}
