/* A mock worker's requests: what they ask for, by path. */
#ifndef ROUTES_H
#define ROUTES_H

#include "answers.h"
#include "block_cache.h"
#include "timer_heap.h"

#define DEFAULT_TOKENS 16
#define MAX_TOKENS 100000

static struct block_cache cache;
static struct timer_heap timers;

static void plan(struct connection *c, uint64_t due_ns) {
  timer_push(&timers, (struct timer){due_ns, c, c->epoch});
}

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

#endif
