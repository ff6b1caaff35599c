/* A closed-loop load generator that costs as little as it can: one process, epoll, one request after
   another on each connection, the same bytes every time. It is written so that the router beside it
   on the machine, not the client, is the limit.

     load_client --ports 8080[,8081,...] --connections 64 --seconds 5 --request FILE

   FILE holds a whole HTTP request, head and body. The last line is JSON: requests answered with 200,
   errors, seconds, latency percentiles in ms, CPU seconds of the client itself. */
#include "http_text.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#define MAX_CONNECTIONS 4096
#define MAX_PORTS 64
#define ANSWER_BYTES 65536
#define RETRY_NS 10000000u

/* Latencies in nanoseconds, 64 buckets an octave: percentiles within 1.6 %. */
#define SUB_BITS 6
static unsigned long histogram[64 << SUB_BITS];

struct connection {
  int fd, port;
  size_t sent, received;
  uint64_t started_ns, retry_at_ns; /* of a connection that failed */
  char answer[ANSWER_BYTES + 1];
};

static struct connection *connections;
static int num_connections = 64, num_ports, ports[MAX_PORTS], poller;
static char *request;
static size_t request_length;
static unsigned long num_ok, num_errors;

static unsigned bucket_of(uint64_t ns) {
  unsigned exponent = 63 - (unsigned)__builtin_clzll(ns | 1);
  if (exponent < SUB_BITS) return (unsigned)ns;
  return ((exponent - SUB_BITS + 1) << SUB_BITS) +
         (unsigned)((ns >> (exponent - SUB_BITS)) & ((1u << SUB_BITS) - 1));
}

/* The middle of a bucket. */
static double bucket_ns(unsigned bucket) {
  if (bucket < (1u << SUB_BITS)) return bucket;
  unsigned shift = (bucket >> SUB_BITS) - 1;
  uint64_t low = (uint64_t)((1u << SUB_BITS) + (bucket & ((1u << SUB_BITS) - 1))) << shift;
  return (double)low + (double)(1ull << shift) / 2;
}

static double percentile_ms(double share) {
  unsigned long wanted = (unsigned long)(share * (double)num_ok), seen = 0;
  for (unsigned bucket = 0; bucket < sizeof histogram / sizeof *histogram; bucket++) {
    seen += histogram[bucket];
    if (seen > wanted) return bucket_ns(bucket) / 1e6;
  }
  return 0;
}

static void watch(struct connection *c, int operation, unsigned events) {
  struct epoll_event event = {.events = events, .data.ptr = c};
  epoll_ctl(poller, operation, c->fd, &event);
}

static void open_connection(struct connection *c) {
  int one = 1;
  c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  struct sockaddr_in address = {.sin_family = AF_INET,
                                .sin_port = htons((uint16_t)c->port),
                                .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
  connect(c->fd, (struct sockaddr *)&address, sizeof address); /* its end shows as writable */
  c->sent = c->received = 0;
  c->started_ns = now_ns();
  watch(c, EPOLL_CTL_ADD, EPOLLIN | EPOLLOUT);
}

static void fail(struct connection *c) {
  num_errors++;
  close(c->fd);
  c->fd = -1;
  c->retry_at_ns = now_ns() + RETRY_NS;
}

static void send_request(struct connection *c) {
  while (c->sent < request_length) {
    ssize_t n = send(c->fd, request + c->sent, request_length - c->sent, MSG_NOSIGNAL);
    if (n < 0 && errno == EAGAIN) {
      watch(c, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT);
      return;
    }
    if (n < 0) {
      fail(c);
      return;
    }
    c->sent += (size_t)n;
  }
}

/* Bytes of the whole answer; 0: not all there yet. */
static size_t answer_length(struct connection *c) {
  char *head_end = memmem(c->answer, c->received, "\r\n\r\n", 4);
  if (!head_end) return 0;
  size_t head = (size_t)(head_end - c->answer) + 4;
  const char *length = header_value(c->answer, head_end, "content-length");
  if (length) {
    size_t whole = head + strtoul(length, NULL, 10);
    return c->received >= whole ? whole : 0;
  }
  size_t body = chunked_length(c->answer + head, c->received - head);
  return body ? head + body : 0;
}

static void receive(struct connection *c) {
  ssize_t n = recv(c->fd, c->answer + c->received, ANSWER_BYTES - c->received, 0);
  if (n < 0 && errno == EAGAIN) return;
  if (n <= 0) {
    fail(c);
    return;
  }
  c->received += (size_t)n;
  c->answer[c->received] = 0;
  if (answer_length(c) == 0) {
    if (c->received == ANSWER_BYTES) fail(c);
    return;
  }
  uint64_t now = now_ns();
  if (memcmp(c->answer + 9, "200", 3)) num_errors++;
  else {
    num_ok++;
    histogram[bucket_of(now - c->started_ns)]++;
  }
  bool closes = memmem(c->answer, c->received, "onnection: close", 16) != NULL;
  c->sent = c->received = 0;
  c->started_ns = now;
  if (closes) {
    close(c->fd);
    open_connection(c);
  } else {
    send_request(c);
  }
}

static void serve_event(struct epoll_event *event) {
  struct connection *c = event->data.ptr;
  if (c->fd < 0) return;
  if (event->events & EPOLLOUT) {
    watch(c, EPOLL_CTL_MOD, EPOLLIN);
    send_request(c);
  }
  if (c->fd >= 0 && (event->events & (EPOLLIN | EPOLLHUP | EPOLLERR))) receive(c);
}

static void run(double seconds) {
  uint64_t end_ns = now_ns() + (uint64_t)(seconds * 1e9);
  struct epoll_event events[256];
  for (int i = 0; i < num_connections; i++) open_connection(&connections[i]);
  for (uint64_t now = now_ns(), look_at = 0; now < end_ns; now = now_ns()) {
    int n = epoll_wait(poller, events, 256, 10);
    for (int i = 0; i < n; i++) serve_event(&events[i]);
    if (now < look_at) continue;
    look_at = now + RETRY_NS;
    for (int i = 0; i < num_connections; i++)
      if (connections[i].fd < 0 && connections[i].retry_at_ns <= now)
        open_connection(&connections[i]);
  }
}

static void read_request(const char *path) {
  FILE *file = fopen(path, "rb");
  if (!file) {
    perror(path);
    exit(1);
  }
  request = malloc(1 << 20);
  request_length = fread(request, 1, 1 << 20, file);
  fclose(file);
}

int main(int argc, char **argv) {
  double seconds = 5;
  for (int i = 1; i + 1 < argc; i += 2) {
    const char *name = argv[i];
    char *value = argv[i + 1];
    if (!strcmp(name, "--ports")) {
      for (char *port = strtok(value, ","); port && num_ports < MAX_PORTS; port = strtok(NULL, ","))
        ports[num_ports++] = atoi(port);
    } else if (!strcmp(name, "--connections")) num_connections = atoi(value);
    else if (!strcmp(name, "--seconds")) seconds = atof(value);
    else if (!strcmp(name, "--request")) read_request(value);
    else {
      fprintf(stderr, "load_client: no option %s\n", name);
      return 2;
    }
  }
  if (!num_ports || !request || num_connections < 1 || num_connections > MAX_CONNECTIONS) {
    fprintf(stderr, "load_client: give --ports, --request and 1 to 4096 --connections\n");
    return 2;
  }
  prctl(PR_SET_PDEATHSIG, SIGKILL); /* not longer than the benchmark */
  connections = calloc((size_t)num_connections, sizeof *connections);
  if (!connections) return 1;
  for (int i = 0; i < num_connections; i++) connections[i].port = ports[i % num_ports];
  poller = epoll_create1(EPOLL_CLOEXEC);
  uint64_t start_ns = now_ns();
  run(seconds);
  double wall_s = (double)(now_ns() - start_ns) / 1e9;
  printf("{\"requests\":%lu,\"errors\":%lu,\"seconds\":%.3f,\"p50_ms\":%.4f,\"p99_ms\":%.4f,"
         "\"max_ms\":%.4f,\"cpu_s\":%.3f}\n",
         num_ok, num_errors, wall_s, percentile_ms(0.5), percentile_ms(0.99), percentile_ms(1 - 1e-9),
         (double)clock() / CLOCKS_PER_SEC);
  return 0;
}
