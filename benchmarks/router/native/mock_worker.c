/* An OpenAI-compatible worker without a model, cheap enough to stand behind any router: one process,
   epoll, no dependencies (some 20 us a request, both sides of the loopback included).

     mock_worker --port 9001 --id w1 [--model NAME] [--ttft-ms 50] [--itl-ms 20] [--prefill-us 0]
                 [--cache-blocks 100000] [--block-chars 64]

   An answer is " tok0 tok1 ...". The first token comes after ttft-ms and prefill-us for each block of
   the prompt that is not in the prefix cache, the others itl-ms apart. Every answer names the worker
   in `system_fingerprint`. SIGTERM: no new connections, what runs is finished, then the end.

   GET /stats   counts, as JSON
   GET /ctl?reset=1&cache_blocks=N&ttft_ms=X&itl_ms=X   empties the cache and the counts, sets costs */
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

#include "block_cache.h"
#include "timer_heap.h"

#define TOKENS_PER_BLOCK 16
#define DEFAULT_TOKENS 16
#define MAX_TOKENS 100000
#define DRAIN_NS 10000000000u
#define TIMER_SLACK_NS 20000u /* due so soon is due now: one system call less */

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
static struct block_cache cache;
static struct timer_heap timers;
static struct connection *free_connections;
static volatile sig_atomic_t stopping;

static void on_stop(int number) {
  (void)number;
  stopping = 1;
}

static void reserve(struct bytes *bytes, size_t more) {
  if (bytes->length + more <= bytes->capacity) return;
  bytes->capacity = 2 * (bytes->length + more);
  bytes->at = realloc(bytes->at, bytes->capacity);
  if (!bytes->at) abort();
}

/* Connections. */

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

/* Answers. */

static int usage_json(const struct connection *c, char *to, size_t size) {
  int prompt = c->prompt_blocks * TOKENS_PER_BLOCK;
  return snprintf(to, size,
                  "\"usage\":{\"prompt_tokens\":%d,\"completion_tokens\":%d,\"total_tokens\":%d,"
                  "\"prompt_tokens_details\":{\"cached_tokens\":%d}}",
                  prompt, c->num_tokens, prompt + c->num_tokens,
                  c->cached_blocks * TOKENS_PER_BLOCK);
}

static int opening_json(const struct connection *c, char *to, size_t size, const char *object) {
  return snprintf(to, size,
                  "{\"id\":\"%s-%s-%lu\",\"object\":\"%s\",\"created\":1700000000,\"model\":\"%s\","
                  "\"system_fingerprint\":\"%s\",",
                  c->chat ? "chatcmpl" : "cmpl", settings.id, c->number, object, settings.model,
                  settings.id);
}

static void append_event(struct connection *c, const char *json, int length) {
  char frame[32];
  int n = snprintf(frame, sizeof frame, "%x\r\ndata: ", length + 8);
  append(c, frame, (size_t)n);
  append(c, json, (size_t)length);
  append(c, "\n\n\r\n", 4);
}

static void append_token(struct connection *c) {
  char json[1024];
  int n = opening_json(c, json, sizeof json,
                       c->chat ? "chat.completion.chunk" : "text_completion");
  const char *format = "\"choices\":[{\"index\":0,\"text\":\" tok%d\",\"finish_reason\":null}]}";
  if (c->chat && c->begun)
    format = "\"choices\":[{\"index\":0,\"delta\":{\"content\":\" tok%d\"},"
             "\"finish_reason\":null}]}";
  else if (c->chat)
    format = "\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\" tok%d\"},"
             "\"finish_reason\":null}]}";
  n += snprintf(json + n, sizeof json - (size_t)n, format, c->num_sent);
  append_event(c, json, n);
}

static void append_end(struct connection *c) {
  char json[1024];
  const char *object = c->chat ? "chat.completion.chunk" : "text_completion";
  int n = opening_json(c, json, sizeof json, object);
  n += snprintf(json + n, sizeof json - (size_t)n,
                c->chat ? "\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":\"length\"}]}"
                        : "\"choices\":[{\"index\":0,\"text\":\"\",\"finish_reason\":\"length\"}]}");
  append_event(c, json, n);
  if (c->with_usage) {
    n = opening_json(c, json, sizeof json, object);
    n += snprintf(json + n, sizeof json - (size_t)n, "\"choices\":[],");
    n += usage_json(c, json + n, sizeof json - (size_t)n);
    json[n++] = '}';
    append_event(c, json, n);
  }
  append_event(c, "[DONE]", 6);
  append(c, "0\r\n\r\n", 5);
}

static bool send_whole(struct connection *c) {
  static struct bytes body;
  size_t size = 2048 + 12 * (size_t)c->num_tokens;
  body.length = 0;
  reserve(&body, size);
  size_t n = (size_t)opening_json(c, body.at, size,
                                  c->chat ? "chat.completion" : "text_completion");
  n += (size_t)snprintf(
      body.at + n, size - n, "\"choices\":[{\"index\":0,%s\"",
      c->chat ? "\"message\":{\"role\":\"assistant\",\"content\":" : "\"text\":");
  for (int i = 0; i < c->num_tokens; i++)
    n += (size_t)snprintf(body.at + n, size - n, " tok%d", i);
  n += (size_t)snprintf(body.at + n, size - n, "\"%s,\"finish_reason\":\"length\"}],",
                        c->chat ? "}" : "");
  n += (size_t)usage_json(c, body.at + n, size - n);
  body.at[n++] = '}';
  counts.tokens += (unsigned long)c->num_tokens;
  return reply(c, 200, "application/json", body.at, n);
}

/* True when the answer is complete; the connection may be gone too. */
static bool advance(struct connection *c) {
  if (!c->streaming) {
    send_whole(c);
    return true;
  }
  if (!c->begun) {
    static const char head[] =
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
        "cache-control: no-cache\r\ntransfer-encoding: chunked\r\n";
    append(c, head, sizeof head - 1);
    if (stopping) append(c, "connection: close\r\n", 19);
    append(c, "\r\n", 2);
  }
  do {
    append_token(c);
    c->begun = true;
    c->num_sent++;
    counts.tokens++;
  } while (c->num_sent < c->num_tokens && settings.itl_ms <= 0);
  bool complete = c->num_sent == c->num_tokens;
  if (complete) append_end(c);
  return !flush(c) || complete;
}

static void plan(struct connection *c, uint64_t due_ns) {
  timer_push(&timers, (struct timer){due_ns, c, c->epoch});
}

static void answered(struct connection *c) {
  if (c->fd < 0) return;
  c->answering = false;
  c->epoch++;
  counts.running--;
  counts.answers++;
}

/* Requests. */

static const char *after_key(const char *body, const char *end, const char *key) {
  const char *at = memmem(body, (size_t)(end - body), key, strlen(key));
  if (!at) return NULL;
  at += strlen(key);
  while (at < end && (*at == ' ' || *at == ':')) at++;
  return at < end ? at : NULL;
}

static int json_int(const char *body, const char *end, const char *key, int otherwise) {
  const char *at = after_key(body, end, key);
  return at && *at >= '0' && *at <= '9' ? atoi(at) : otherwise;
}

static bool json_true(const char *body, const char *end, const char *key) {
  const char *at = after_key(body, end, key);
  return at && *at == 't';
}

/* The text of all strings under `key`, a line each: what the prefix cache sees of a prompt. */
static size_t prompt_text(const char *body, const char *end, const char *key, char *to) {
  size_t length = 0;
  for (const char *at = body; (at = after_key(at, end, key));) {
    if (*at != '"') continue;
    for (at++; at < end && *at != '"'; at++) {
      if (*at == '\\' && at + 1 < end) to[length++] = *at++;
      to[length++] = *at;
    }
    to[length++] = '\n';
  }
  return length;
}

static void generate(struct connection *c, bool chat, const char *body, const char *end) {
  static struct bytes text;
  text.length = 0;
  reserve(&text, (size_t)(end - body) + 64);
  size_t length = prompt_text(body, end, chat ? "\"content\"" : "\"prompt\"", text.at);
  c->cached_blocks =
      cache_look_up(&cache, text.at, length, (size_t)settings.block_chars, &c->prompt_blocks);
  int num_tokens = json_int(body, end, "\"max_tokens\"", DEFAULT_TOKENS);
  num_tokens = json_int(body, end, "\"max_completion_tokens\"", num_tokens);
  c->num_tokens = num_tokens < 1 ? 1 : num_tokens > MAX_TOKENS ? MAX_TOKENS : num_tokens;
  c->num_sent = 0;
  c->chat = chat;
  c->streaming = json_true(body, end, "\"stream\"");
  c->with_usage = json_true(body, end, "\"include_usage\"");
  c->begun = false;
  c->answering = true;
  c->number = ++counts.requests;
  counts.running++;
  counts.prompt_blocks += (unsigned long)c->prompt_blocks;
  counts.cached_blocks += (unsigned long)c->cached_blocks;
  double ms = settings.ttft_ms + settings.prefill_us * (c->prompt_blocks - c->cached_blocks) / 1e3;
  if (!c->streaming) ms += settings.itl_ms * (c->num_tokens - 1);
  if (ms > 0) plan(c, now_ns() + (uint64_t)(ms * 1e6));
  else if (advance(c)) answered(c);
  else plan(c, now_ns() + (uint64_t)(settings.itl_ms * 1e6));
}

static double query_number(const char *path, const char *name, double otherwise) {
  const char *at = strstr(path, name);
  return at ? atof(at + strlen(name)) : otherwise;
}

static void control(const char *path) {
  settings.ttft_ms = query_number(path, "ttft_ms=", settings.ttft_ms);
  settings.itl_ms = query_number(path, "itl_ms=", settings.itl_ms);
  settings.cache_blocks = (int)query_number(path, "cache_blocks=", settings.cache_blocks);
  if (strstr(path, "reset=1") || settings.cache_blocks != cache.capacity) {
    unsigned long running = counts.running;
    memset(&counts, 0, sizeof counts);
    counts.running = running;
    cache_init(&cache, settings.cache_blocks);
  }
}

/* Under vLLM's names, so that a router that scrapes learns load and cache size. Usage is 0: vLLM
   counts blocks of running requests, not cached ones, and a mock's requests hold none. */
static int metrics_text(char *to, size_t size) {
  const char *m = settings.model;
  return snprintf(
      to, size,
      "# TYPE vllm:num_requests_running gauge\nvllm:num_requests_running{model_name=\"%s\"} %lu\n"
      "# TYPE vllm:num_requests_waiting gauge\nvllm:num_requests_waiting{model_name=\"%s\"} 0\n"
      "# TYPE vllm:kv_cache_usage_perc gauge\nvllm:kv_cache_usage_perc{model_name=\"%s\"} 0\n"
      "# TYPE vllm:prefix_cache_queries_total counter\n"
      "vllm:prefix_cache_queries_total{model_name=\"%s\"} %lu\n"
      "# TYPE vllm:prefix_cache_hits_total counter\n"
      "vllm:prefix_cache_hits_total{model_name=\"%s\"} %lu\n"
      "# TYPE vllm:generation_tokens_total counter\n"
      "vllm:generation_tokens_total{model_name=\"%s\"} %lu\n"
      "# TYPE vllm:request_success_total counter\n"
      "vllm:request_success_total{finished_reason=\"length\",model_name=\"%s\"} %lu\n"
      "# TYPE vllm:cache_config_info gauge\n"
      "vllm:cache_config_info{block_size=\"%d\",num_gpu_blocks=\"%d\"} 1\n",
      m, counts.running, m, m, m, counts.prompt_blocks * TOKENS_PER_BLOCK, m,
      counts.cached_blocks * TOKENS_PER_BLOCK, m, counts.tokens, m, counts.answers, TOKENS_PER_BLOCK,
      cache.capacity);
}

static void route(struct connection *c, const char *path, const char *body, const char *end) {
  char text[4096];
  const char *json = "application/json", *m = settings.model;
  size_t size = sizeof text;
  int n = 0;
  if (!strcmp(path, "/v1/chat/completions")) {
    generate(c, true, body, end);
    return;
  }
  if (!strcmp(path, "/v1/completions")) {
    generate(c, false, body, end);
    return;
  }
  if (!strcmp(path, "/health") || !strcmp(path, "/ready") || !strcmp(path, "/ping")) {
    reply(c, 200, "text/plain", "", 0);
    return;
  }
  if (!strcmp(path, "/metrics")) {
    n = metrics_text(text, size);
    reply(c, 200, "text/plain; version=0.0.4", text, (size_t)n);
    return;
  }
  if (!strncmp(path, "/ctl?", 5)) {
    control(path);
    reply(c, 200, "text/plain", "", 0);
    return;
  }
  if (!strcmp(path, "/stats"))
    n = snprintf(text, size,
                 "{\"id\":\"%s\",\"requests\":%lu,\"answers\":%lu,\"tokens\":%lu,"
                 "\"prompt_blocks\":%lu,\"cached_blocks\":%lu,\"running\":%lu,\"blocks\":%d}",
                 settings.id, counts.requests, counts.answers, counts.tokens, counts.prompt_blocks,
                 counts.cached_blocks, counts.running, cache.used);
  else if (!strcmp(path, "/v1/models"))
    n = snprintf(text, size,
                 "{\"object\":\"list\",\"data\":[{\"id\":\"%s\",\"object\":\"model\","
                 "\"created\":1700000000,\"owned_by\":\"mock\",\"max_model_len\":32768}]}", m);
  else if (!strcmp(path, "/version")) n = snprintf(text, size, "{\"version\":\"0.0.0\"}");
  else if (!strcmp(path, "/get_model_info") || !strcmp(path, "/model_info"))
    n = snprintf(text, size,
                 "{\"model_path\":\"%s\",\"tokenizer_path\":\"%s\",\"is_generation\":true,"
                 "\"served_model_name\":\"%s\"}", m, m, m);
  else if (!strcmp(path, "/get_server_info") || !strcmp(path, "/server_info"))
    n = snprintf(text, size,
                 "{\"model_path\":\"%s\",\"served_model_name\":\"%s\",\"model_id\":\"%s\","
                 "\"tp_size\":1,\"dp_size\":1,\"disaggregation_mode\":\"null\"}", m, m, m);
  if (n) reply(c, 200, json, text, (size_t)n);
  else reply(c, 404, json, "{\"error\":{\"message\":\"no such route\"}}", 39);
}

/* Take a chunked body's framing out in place; returns the end of the content. */
static char *dechunk(char *body) {
  char *to = body, *from = body;
  for (;;) {
    char *line_end;
    size_t chunk = strtoul(from, &line_end, 16);
    from = strstr(line_end, "\r\n") + 2;
    if (chunk == 0) return to;
    memmove(to, from, chunk);
    to += chunk;
    from += chunk + 2;
  }
}

/* Serve the requests that have arrived whole, one after another. */
static void process(struct connection *c) {
  while (c->fd >= 0 && !c->answering) {
    if (c->in.length == 0) {
      if (stopping && c->out.length == 0) close_connection(c);
      return;
    }
    char *head_end = memmem(c->in.at, c->in.length, "\r\n\r\n", 4);
    if (!head_end) return;
    char *body = head_end + 4, *end = body;
    size_t arrived = c->in.length - (size_t)(body - c->in.at), used = (size_t)(body - c->in.at);
    const char *length = header_value(c->in.at, head_end, "content-length");
    const char *coding = header_value(c->in.at, head_end, "transfer-encoding");
    if (coding && !strncasecmp(coding, "chunked", 7)) {
      size_t framed = chunked_length(body, arrived);
      if (framed == 0) return;
      used += framed;
      end = dechunk(body);
    } else if (length) {
      size_t wanted = strtoul(length, NULL, 10);
      if (arrived < wanted) return;
      used += wanted;
      end = body + wanted;
    }
    char path[512];
    if (sscanf(c->in.at, "%*15s %511s", path) != 1) {
      close_connection(c);
      return;
    }
    route(c, path, body, end);
    if (c->fd < 0) return;
    memmove(c->in.at, c->in.at + used, c->in.length - used);
    c->in.length -= used;
  }
}

/* The loop. */

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
