// The C interface that Python calls through ctypes. Shapes are checked there.
#include <new>

#include "decoder.h"
#include "gguf_blocks.h"

using namespace shoal;

namespace {

// 0, or 1 when memory ran out.
template <class Body>
int guarded(Body&& body) {
  try {
    body();
    return 0;
  } catch (const std::bad_alloc&) {
    return 1;
  }
}

}  // namespace

extern "C" {

int64_t shoal_packed_bytes(const Matrix* m) { return int64_t(packed_bytes(*m)); }

// 0, or 1 when a scale does not fit half precision.
int shoal_pack_codes(const Matrix* m, const uint8_t* codes, const float* scales,
                     const float* minima, uint8_t* out) {
  return pack_codes(*m, codes, scales, minima, out) ? 0 : 1;
}

void shoal_pack_bf16(const Matrix* m, const float* values, uint8_t* out) {
  pack_bf16(*m, values, out);
}

void shoal_unpack_rows(const Matrix* m, const int64_t* rows, int32_t count, float* out) {
  for (int i = 0; i < count; ++i) unpack_row(*m, int(rows[i]), out + size_t(i) * m->columns);
}

void shoal_quantize(const float* values, int64_t rows, int32_t columns, uint8_t* codes,
                    float* scales, float* minima) {
  quantize_rows(values, rows, columns, codes, scales, minima);
}

// 0, or 1 for a type that has no codes.
int shoal_gguf_codes(int32_t type, const uint8_t* blocks, int64_t num_values, uint8_t* codes,
                     float* scales, float* minima) {
  return gguf_codes(type, blocks, num_values, codes, scales, minima) ? 0 : 1;
}

// out[rows][m.rows] = x[rows][m.columns] times the matrix, transposed, plus its bias.
int shoal_matmul(const Matrix* m, const float* x, int32_t rows, float* out, int32_t num_threads) {
  return guarded([&] {
    Team team(num_threads);
    Activations in;
    in.reserve(rows, m->columns);
    team.run([&] {
      team.share(rows, 1, [&](int row, int) {
        in.write(m->format, row, 0, x + size_t(row) * m->columns, m->columns);
      });
      multiply(team, *m, in, rows, out);
    });
  });
}

int64_t shoal_kv_keys_bytes(const KVLayout* kv) { return int64_t(kv->keys_bytes()); }

Decoder* shoal_decoder_new(const Model* model, int32_t num_threads) {
  return new (std::nothrow) Decoder(*model, num_threads);
}

void shoal_decoder_free(Decoder* decoder) { delete decoder; }

// sampling: null to choose no tokens.
int shoal_step(Decoder* decoder, const Step* step, const Sampling* sampling) {
  return guarded([&] { decoder->step(*step, sampling); });
}

int shoal_logits(Decoder* decoder, const int64_t* tokens, int32_t rows, float* out) {
  return guarded([&] { decoder->logits(tokens, rows, out); });
}

int shoal_logprobs(Decoder* decoder, const int64_t* tokens, const int32_t* targets, int32_t rows,
                   int32_t num_top, int32_t* ids, float* values, int32_t* ranks) {
  return guarded([&] {
    decoder->logprobs(tokens, targets, rows, num_top, ids, values, ranks);
  });
}

// The sampler alone, on given logits [rows][vocabulary], which it overwrites: for tests.
int shoal_sample_logits(const Sampling* sampling, float* logits, int32_t vocabulary) {
  return guarded([&] {
    SamplingScratch scratch;
    for (int row = 0; row < sampling->num_rows; ++row) {
      sample_row(*sampling, row, logits + size_t(row) * vocabulary, vocabulary, scratch);
    }
  });
}

}  // extern "C"
