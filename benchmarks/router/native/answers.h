/* A mock worker's answers: " tok0 tok1 ...", whole or as server-sent events. */
#ifndef ANSWERS_H
#define ANSWERS_H

#include "connections.h"

#define TOKENS_PER_BLOCK 16

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

static void answered(struct connection *c) {
  if (c->fd < 0) return;
  c->answering = false;
  c->epoch++;
  counts.running--;
  counts.answers++;
}

#endif
