// The transformer's arithmetic for decoding on CPUs with AVX-512 VNNI: 8-bit weights, activations quantised row by row.
//
// One call makes one step for a block of rows, through every layer, and ends in the k likeliest next tokens: a row's
// numbers stay in the cache, nothing is written between two operations that need not be, and the logits of the whole
// vocabulary never exist. Each row is computed by itself: its result does not depend on its neighbours, bit by bit.
// A plain C interface, called by model/int8.py, which says what every argument is.
//
// Quantisation: weight column j = scale[j] * (w - 128) with w in 4..252, activation row = scale * a with a in -127..127;
// the product is exact in 32 bits (vpdpbusd takes one unsigned side: the 128 leaves again through the sum of the row).

#include <immintrin.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <condition_variable>
#include <cstdint>
#include <cstring>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace {

constexpr int PANEL = 64;   // columns of a weight panel: four registers
constexpr int CHUNK = 64;   // rows that go through all layers together: their numbers fit the second-level cache
constexpr int LEAST = 24;   // fewer rows a thread are not worth waking it
constexpr int LANES = 16;   // floats in a register
constexpr float EPSILON = 1e-5f;  // of torch.nn.LayerNorm

using bf16 = uint16_t;

struct Linear {
  int inputs, outputs;
  const uint8_t* weight;  // panels of PANEL columns; in each, 4 inputs of column 0, 4 of column 1, ...
  const float* scale;     // of each column, 0 where the last panel is padded
  const float* bias;
};

struct Embedding {
  const float* tokens;     // (V, E), scaled already
  const float* positions;  // (length, E) or null
};

struct Norm {
  const float *weight, *bias;
};

struct EncoderLayer {
  Norm norm_attention;
  Linear query_key_value, attention_output;
  Norm norm_feed_forward;
  Linear inner, output;
};

struct DecoderLayer {
  Norm norm_attention;
  Linear query_key_value, attention_output;
  Norm norm_cross;
  Linear cross_query, cross_key_value, cross_output;
  Norm norm_feed_forward;
  Linear inner, output;
};

struct Model {
  int width, heads, inner, vocabulary;
  Embedding source, target;
  const float *cosines, *sines;                      // (length, D / 2) or null
  std::vector<EncoderLayer> encoder;
  std::vector<DecoderLayer> decoder;
  Norm encoder_norm, decoder_norm;
  Linear logits;
  const uint8_t* forbidden;  // (V,): 1 = never to be written
};

inline __m512 load(const float* p) { return _mm512_loadu_ps(p); }
inline __m512 load(const bf16* p) {
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i*)p)), 16));
}
inline void store(float* p, __m512 v) { _mm512_storeu_ps(p, v); }
inline void store(bf16* p, __m512 v) {  // rounds to nearest, ties away from zero
  __m512i bits = _mm512_add_epi32(_mm512_castps_si512(v), _mm512_set1_epi32(0x8000));
  _mm256_storeu_si256((__m256i*)p, _mm512_cvtepi32_epi16(_mm512_srli_epi32(bits, 16)));
}

// e^x for x <= 0, relative error below 1e-6.
inline __m512 exponential(__m512 x) {
  const __m512 t = _mm512_mul_ps(_mm512_max_ps(x, _mm512_set1_ps(-87.0f)), _mm512_set1_ps(1.44269504f));
  const __m512 whole = _mm512_roundscale_ps(t, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
  const __m512 part = _mm512_sub_ps(t, whole);  // 2^part by its Taylor series
  __m512 p = _mm512_set1_ps(1.5403530e-4f);
  for (float c : {1.3333558e-3f, 9.6181291e-3f, 5.5504109e-2f, 2.4022651e-1f, 6.9314718e-1f, 1.0f})
    p = _mm512_fmadd_ps(p, part, _mm512_set1_ps(c));
  return _mm512_scalef_ps(p, whole);
}

// Rows of 8-bit numbers, ready to be multiplied.
struct Quantised {
  int width = 0;
  std::vector<int8_t> data;
  std::vector<float> scale;
  std::vector<int32_t> offset;  // 128 * sum of the row

  void resize(int rows, int width_) {
    width = width_;
    data.resize(size_t(rows) * width);
    scale.resize(rows);
    offset.resize(rows);
  }

  void set(int row, const float* x) {
    __m512 largest = _mm512_setzero_ps();
    for (int i = 0; i < width; i += LANES) largest = _mm512_max_ps(largest, _mm512_abs_ps(load(x + i)));
    const float top = _mm512_reduce_max_ps(largest);
    const __m512 inverse = _mm512_set1_ps(top > 0.0f ? 127.0f / top : 0.0f);
    __m512i sum = _mm512_setzero_si512();
    int8_t* q = data.data() + size_t(row) * width;
    for (int i = 0; i < width; i += LANES) {
      const __m512i v = _mm512_cvtps_epi32(_mm512_mul_ps(load(x + i), inverse));
      sum = _mm512_add_epi32(sum, v);
      _mm_storeu_si128((__m128i*)(q + i), _mm512_cvtepi32_epi8(v));
    }
    scale[row] = top / 127.0f;
    offset[row] = 128 * _mm512_reduce_add_epi32(sum);
  }
};

// sum += four products of 8-bit numbers, in each lane. The intrinsic lets GCC copy all sums at every turn of the loop.
inline void add_products(__m512i& sum, __m512i unsigned_bytes, __m512i signed_bytes) {
  asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(unsigned_bytes), "v"(signed_bytes));
}

// M rows times one panel: `put(row, column, value)` gets 16 columns at a time. The sums stay in registers only where
// every loop over them is unrolled, which GCC must be told: without, this runs at a third of its speed.
template <int M, class Put>
inline void multiply(const Quantised& x, int row, const Linear& linear, int panel, Put put) {
  __m512i sum[M][4];
#pragma GCC unroll 5
  for (int m = 0; m < M; m++)
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) sum[m][j] = _mm512_setzero_si512();
  const uint8_t* w = linear.weight + size_t(panel) * PANEL * linear.inputs;
  const int8_t* a = x.data.data() + size_t(row) * x.width;
  for (int i = 0; i < linear.inputs; i += 4, w += 4 * PANEL) {
    __m512i columns[4];
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) columns[j] = _mm512_loadu_si512(w + 64 * j);
#pragma GCC unroll 5
    for (int m = 0; m < M; m++) {
      int32_t four;
      std::memcpy(&four, a + size_t(m) * x.width + i, 4);
#pragma GCC unroll 4
      for (int j = 0; j < 4; j++) add_products(sum[m][j], columns[j], _mm512_set1_epi32(four));
    }
  }
#pragma GCC unroll 4
  for (int j = 0; j < 4; j++) {
    const int column = panel * PANEL + j * LANES;
    const __m512 scale = load(linear.scale + column), bias = load(linear.bias + column);
#pragma GCC unroll 5
    for (int m = 0; m < M; m++) {
      const __m512i exact = _mm512_sub_epi32(sum[m][j], _mm512_set1_epi32(x.offset[row + m]));
      const __m512 value = _mm512_mul_ps(_mm512_cvtepi32_ps(exact), _mm512_set1_ps(x.scale[row + m]));
      put(row + m, column, _mm512_fmadd_ps(value, scale, bias));
    }
  }
}

// Up to five rows at a time, about as many each time: fewer leave the arithmetic waiting for the weights.
template <class Put>
inline void multiply(const Quantised& x, int rows, const Linear& linear, int panel, Put put) {
  for (int row = 0, left = (rows + 4) / 5; left > 0; left--) {
    const int some = (rows - row + left - 1) / left;
    switch (some) {
      case 5: multiply<5>(x, row, linear, panel, put); break;
      case 4: multiply<4>(x, row, linear, panel, put); break;
      case 3: multiply<3>(x, row, linear, panel, put); break;
      case 2: multiply<2>(x, row, linear, panel, put); break;
      case 1: multiply<1>(x, row, linear, panel, put); break;
    }
    row += some;
  }
}

template <class Put>
inline void apply(const Quantised& x, int rows, const Linear& linear, Put put) {
  for (int panel = 0; panel * PANEL < linear.outputs; panel++) multiply(x, rows, linear, panel, put);
}

struct Workspace {
  std::vector<float> x, projected, mixed, hidden, scores, logits, log_z;
  std::vector<const void*> places;
  Quantised quantised, wide;
};

void normalise(const Model& model, const Norm& norm, const float* x, float* y) {
  const int width = model.width;
  __m512 sum = _mm512_setzero_ps(), squares = _mm512_setzero_ps();
  for (int i = 0; i < width; i += LANES) sum = _mm512_add_ps(sum, load(x + i));
  const __m512 mean = _mm512_set1_ps(_mm512_reduce_add_ps(sum) / width);
  for (int i = 0; i < width; i += LANES) {
    const __m512 d = _mm512_sub_ps(load(x + i), mean);
    squares = _mm512_fmadd_ps(d, d, squares);
  }
  const __m512 inverse = _mm512_set1_ps(1.0f / std::sqrt(_mm512_reduce_add_ps(squares) / width + EPSILON));
  for (int i = 0; i < width; i += LANES) {
    const __m512 d = _mm512_mul_ps(_mm512_sub_ps(load(x + i), mean), inverse);
    store(y + i, _mm512_fmadd_ps(d, load(norm.weight + i), load(norm.bias + i)));
  }
}

// Norm of `rows` rows of x, quantised: the input of a layer's products.
void normalise(const Model& model, const Norm& norm, int rows, Workspace& work) {
  std::vector<float>& y = work.mixed;
  work.quantised.resize(rows, model.width);
  for (int r = 0; r < rows; r++) {
    normalise(model, norm, work.x.data() + size_t(r) * model.width, y.data());
    work.quantised.set(r, y.data());
  }
}

void rotate(const Model& model, float* x, int position) {
  if (!model.cosines) return;
  const int half = model.width / model.heads / 2;
  const float *cosines = model.cosines + size_t(position) * half, *sines = model.sines + size_t(position) * half;
  for (int head = 0; head < model.heads; head++, x += 2 * half)
    for (int i = 0; i < half; i += LANES) {
      const __m512 c = load(cosines + i), s = load(sines + i), left = load(x + i), right = load(x + half + i);
      store(x + i, _mm512_fmsub_ps(left, c, _mm512_mul_ps(right, s)));
      store(x + half + i, _mm512_fmadd_ps(right, c, _mm512_mul_ps(left, s)));
    }
}

// The sums of four registers.
inline __m128 sums(__m512 a, __m512 b, __m512 c, __m512 d) {
  auto halves = [](__m512 v) { return _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1)); };
  const __m256 pairs = _mm256_hadd_ps(_mm256_hadd_ps(halves(a), halves(b)), _mm256_hadd_ps(halves(c), halves(d)));
  return _mm_add_ps(_mm256_castps256_ps128(pairs), _mm256_extractf128_ps(pairs, 1));
}

// softmax(q K^T / sqrt(D)) V for one query and all heads. `at(t)` points to the key of position t, its value is
// `step` further on.
template <class At>
void attend(const Model& model, const float* query, int length, size_t step, At at, float* out, Workspace& work) {
  const int size = model.width / model.heads;
  const float scale = 1.0f / std::sqrt(float(size));
  const int stride = (length + LANES - 1) / LANES * LANES;
  work.scores.resize(size_t(model.heads) * stride);
  work.places.resize(stride);
  float* scores = work.scores.data();
  using Place = decltype(at(0));
  auto place = [&](int t) { return (Place)work.places[t]; };
  for (int t = 0; t < stride; t++) work.places[t] = at(std::min(t, length - 1));  // whole groups of four: no rest
  for (int t = 0; t < length; t += 4) {
    const Place a = place(t), b = place(t + 1), c = place(t + 2), d = place(t + 3);
    for (int head = 0; head < model.heads; head++) {
      __m512 to_a = _mm512_setzero_ps(), to_b = to_a, to_c = to_a, to_d = to_a;
      for (int i = head * size; i < (head + 1) * size; i += LANES) {
        const __m512 q = load(query + i);
        to_a = _mm512_fmadd_ps(q, load(a + i), to_a);
        to_b = _mm512_fmadd_ps(q, load(b + i), to_b);
        to_c = _mm512_fmadd_ps(q, load(c + i), to_c);
        to_d = _mm512_fmadd_ps(q, load(d + i), to_d);
      }
      _mm_storeu_ps(scores + head * stride + t, _mm_mul_ps(sums(to_a, to_b, to_c, to_d), _mm_set1_ps(scale)));
    }
  }
  for (int head = 0; head < model.heads; head++) {
    float* s = scores + head * stride;
    std::fill(s + length, s + stride, -INFINITY);
    __m512 top = load(s), sum = _mm512_setzero_ps();
    for (int t = LANES; t < stride; t += LANES) top = _mm512_max_ps(top, load(s + t));
    const __m512 largest = _mm512_set1_ps(_mm512_reduce_max_ps(top));
    for (int t = 0; t < stride; t += LANES) {
      const __m512 e = exponential(_mm512_sub_ps(load(s + t), largest));
      store(s + t, e);
      sum = _mm512_add_ps(sum, _mm512_maskz_mov_ps(t + LANES <= length ? 0xffff : (1 << (length - t)) - 1, e));
    }
    const __m512 inverse = _mm512_set1_ps(1.0f / _mm512_reduce_add_ps(sum));
    for (int i = head * size; i < (head + 1) * size; i += 2 * LANES) {
      __m512 left = _mm512_setzero_ps(), right = left;
      for (int t = 0; t < length; t++) {
        const __m512 weight = _mm512_set1_ps(s[t]);
        left = _mm512_fmadd_ps(weight, load(place(t) + step + i), left);
        right = _mm512_fmadd_ps(weight, load(place(t) + step + i + LANES), right);
      }
      store(out + i, _mm512_mul_ps(left, inverse));
      store(out + i + LANES, _mm512_mul_ps(right, inverse));
    }
  }
}

void add_product(const Quantised& q, int rows, const Linear& linear, Workspace& work) {
  float* x = work.x.data();
  const int width = linear.outputs;
  apply(q, rows, linear, [=](int r, int c, __m512 v) { store(x + size_t(r) * width + c, _mm512_add_ps(load(x + size_t(r) * width + c), v)); });
}

void project(int rows, const Linear& linear, Workspace& work) {
  work.projected.resize(size_t(rows) * linear.outputs);
  float* y = work.projected.data();
  const int width = linear.outputs;
  apply(work.quantised, rows, linear, [=](int r, int c, __m512 v) { store(y + size_t(r) * width + c, v); });
}

void feed_forward(const Model& model, const Norm& norm, const Linear& inner, const Linear& output, int rows, Workspace& work) {
  normalise(model, norm, rows, work);
  const size_t stride = model.inner + LANES;  // rows 4096 bytes apart would share the same few lines of the cache
  work.hidden.resize(rows * stride);
  float* hidden = work.hidden.data();
  apply(work.quantised, rows, inner, [=](int r, int c, __m512 v) {
    store(hidden + r * stride + c, _mm512_max_ps(v, _mm512_setzero_ps()));
  });
  work.wide.resize(rows, model.inner);
  for (int r = 0; r < rows; r++) work.wide.set(r, hidden + r * stride);
  add_product(work.wide, rows, output, work);
}

void embed(const Embedding& embedding, int width, int token, int position, float* x) {
  for (int i = 0; i < width; i += LANES) {
    __m512 v = load(embedding.tokens + size_t(token) * width + i);
    if (embedding.positions) v = _mm512_add_ps(v, load(embedding.positions + size_t(position) * width + i));
    store(x + i, v);
  }
}

Workspace& workspace(const Model& model, int rows) {
  thread_local Workspace work;
  work.x.resize(size_t(rows) * model.width);
  work.mixed.resize(model.width);
  return work;
}

// Encode sentences whose tokens lie one after the other, and store what each decoder layer needs of them.
void encode(const Model& model, int sentences, const int32_t* tokens, const int32_t* lengths, bf16* const* memories) {
  int rows = 0;
  for (int s = 0; s < sentences; s++) rows += lengths[s];
  Workspace& work = workspace(model, rows);
  const int width = model.width;
  for (int s = 0, r = 0; s < sentences; s++)
    for (int t = 0; t < lengths[s]; t++, r++)
      embed(model.source, width, tokens[r], t, work.x.data() + size_t(r) * width);
  for (const EncoderLayer& layer : model.encoder) {
    normalise(model, layer.norm_attention, rows, work);
    project(rows, layer.query_key_value, work);
    for (int s = 0, first = 0; s < sentences; first += lengths[s++]) {
      float* projected = work.projected.data() + size_t(first) * 3 * width;
      for (int t = 0; t < lengths[s]; t++) {
        rotate(model, projected + size_t(t) * 3 * width, t);
        rotate(model, projected + size_t(t) * 3 * width + width, t);
      }
      for (int t = 0; t < lengths[s]; t++) {
        const float* keys = projected + width;
        attend(model, projected + size_t(t) * 3 * width, lengths[s], width,
               [=](int i) { return keys + size_t(i) * 3 * width; }, work.mixed.data(), work);
        work.quantised.set(first + t, work.mixed.data());
      }
    }
    add_product(work.quantised, rows, layer.attention_output, work);
    feed_forward(model, layer.norm_feed_forward, layer.inner, layer.output, rows, work);
  }
  normalise(model, model.encoder_norm, rows, work);
  for (size_t l = 0; l < model.decoder.size(); l++) {
    project(rows, model.decoder[l].cross_key_value, work);
    const float* projected = work.projected.data();
    for (int s = 0; s < sentences; projected += size_t(lengths[s++]) * 2 * width) {
      bf16* memory = memories[s] + l * lengths[s] * 2 * width;
      for (int i = 0; i < lengths[s] * 2 * width; i += LANES) store(memory + i, load(projected + i));
    }
  }
}

// One number of `apply`, the same bit by bit.
float product(const Quantised& x, int row, const Linear& linear, int column) {
  const uint8_t* w = linear.weight + size_t(column / PANEL) * PANEL * linear.inputs + column % PANEL * 4;
  const int8_t* a = x.data.data() + size_t(row) * x.width;
  int32_t sum = -x.offset[row];
  for (int i = 0; i < linear.inputs; i += 4, w += 4 * PANEL)
    for (int j = 0; j < 4; j++) sum += a[i + j] * w[j];
  return std::fma(float(sum) * x.scale[row], linear.scale[column], linear.bias[column]);
}

struct Best {  // the k largest so far, largest first
  int k;
  float* values;
  int32_t* tokens;

  void offer(float value, int token) {
    int i = k - 1;
    if (value <= values[i]) return;  // of equals the first stays: tokens come in order
    for (; i > 0 && values[i - 1] < value; i--) values[i] = values[i - 1], tokens[i] = tokens[i - 1];
    values[i] = value, tokens[i] = token;
  }
};

// The k likeliest next tokens of each row and their log-probabilities. The log-sum-exp is kept lane by lane: the
// maximum of a lane seldom rises after the first panels, and lanes meet only at the end.
void likeliest(const Model& model, int rows, int k, float* values, int32_t* tokens, Workspace& work) {
  std::fill(values, values + size_t(rows) * k, -INFINITY);
  std::fill(tokens, tokens + size_t(rows) * k, 0);
  __m512 top[CHUNK], sum[CHUNK];
  std::fill(top, top + rows, _mm512_set1_ps(-1e30f));
  std::fill(sum, sum + rows, _mm512_setzero_ps());
  work.logits.resize(CHUNK * PANEL);
  work.log_z.resize(rows);
  float* logits = work.logits.data();
  for (int first = 0; first < model.vocabulary; first += PANEL) {
    const int columns = std::min(PANEL, model.vocabulary - first);
    multiply(work.quantised, rows, model.logits, first / PANEL,
             [=](int r, int c, __m512 v) { store(logits + r * PANEL + c - first, v); });
    for (int r = 0; r < rows; r++) {
      float* row = logits + r * PANEL;
      std::fill(row + columns, row + PANEL, -INFINITY);
      const __m512 a = load(row), b = load(row + 16), c = load(row + 32), d = load(row + 48);
      const __m512 most = _mm512_max_ps(_mm512_max_ps(a, b), _mm512_max_ps(c, d));
      if (_mm512_cmp_ps_mask(most, top[r], _CMP_GT_OQ)) {
        const __m512 higher = _mm512_max_ps(most, top[r]);
        sum[r] = _mm512_mul_ps(sum[r], exponential(_mm512_sub_ps(top[r], higher)));
        top[r] = higher;
      }
      const __m512 t = top[r];
      const __m512 left = _mm512_add_ps(exponential(_mm512_sub_ps(a, t)), exponential(_mm512_sub_ps(b, t)));
      const __m512 right = _mm512_add_ps(exponential(_mm512_sub_ps(c, t)), exponential(_mm512_sub_ps(d, t)));
      sum[r] = _mm512_add_ps(sum[r], _mm512_add_ps(left, right));
      Best best{k, values + size_t(r) * k, tokens + size_t(r) * k};
      if (_mm512_cmp_ps_mask(most, _mm512_set1_ps(best.values[k - 1]), _CMP_GT_OQ))
        for (int j = 0; j < PANEL; j += LANES) {
          unsigned better = _mm512_cmp_ps_mask(load(row + j), _mm512_set1_ps(best.values[k - 1]), _CMP_GT_OQ);
          for (; better; better &= better - 1) {
            const int i = j + __builtin_ctz(better);
            if (!model.forbidden[first + i]) best.offer(row[i], first + i);
          }
        }
    }
  }
  for (int r = 0; r < rows; r++) {
    const float highest = _mm512_reduce_max_ps(top[r]);
    const __m512 scaled = _mm512_mul_ps(sum[r], exponential(_mm512_sub_ps(top[r], _mm512_set1_ps(highest))));
    const float log_z = highest + std::log(_mm512_reduce_add_ps(scaled));
    for (int i = 0; i < k; i++) values[size_t(r) * k + i] -= log_z;
    work.log_z[r] = log_z;
  }
}

struct Row {
  int token, position;
  const uint8_t* ancestors;  // which of the sentence's rows wrote the token of each position before
  int self;                  // which of the sentence's rows this one is
  int beam;
  bf16* cache;               // layer, position, row of the sentence: key and value
  int capacity;              // positions
  const bf16* memory;        // layer, source position: key and value
  int source_length;
  const int32_t* wanted;     // tokens whose log-probabilities are wanted, likely or not; -1: none
  float* wanted_values;
};

void step(const Model& model, int rows, const Row* row, int k, float* values, int32_t* tokens, int wanted_count) {
  Workspace& work = workspace(model, rows);
  const int width = model.width;
  for (int r = 0; r < rows; r++)
    embed(model.target, width, row[r].token, row[r].position, work.x.data() + size_t(r) * width);
  for (size_t l = 0; l < model.decoder.size(); l++) {
    const DecoderLayer& layer = model.decoder[l];
    normalise(model, layer.norm_attention, rows, work);
    project(rows, layer.query_key_value, work);
    for (int r = 0; r < rows; r++) {
      const Row& at = row[r];
      float* query = work.projected.data() + size_t(r) * 3 * width;
      rotate(model, query, at.position);
      rotate(model, query + width, at.position);
      bf16* cache = at.cache + l * at.capacity * at.beam * 2 * width;
      bf16* fresh = cache + (size_t(at.position) * at.beam + at.self) * 2 * width;
      for (int i = 0; i < 2 * width; i += LANES) store(fresh + i, load(query + width + i));
      attend(model, query, at.position + 1, width,
             [&](int t) { return cache + (size_t(t) * at.beam + (t < at.position ? at.ancestors[t] : at.self)) * 2 * width; },
             work.mixed.data(), work);
      work.quantised.set(r, work.mixed.data());
    }
    add_product(work.quantised, rows, layer.attention_output, work);
    normalise(model, layer.norm_cross, rows, work);
    project(rows, layer.cross_query, work);
    for (int r = 0; r < rows; r++) {
      const Row& at = row[r];
      const bf16* memory = at.memory + l * at.source_length * 2 * width;
      attend(model, work.projected.data() + size_t(r) * width, at.source_length, width,
             [=](int t) { return memory + size_t(t) * 2 * width; }, work.mixed.data(), work);
      work.quantised.set(r, work.mixed.data());
    }
    add_product(work.quantised, rows, layer.cross_output, work);
    feed_forward(model, layer.norm_feed_forward, layer.inner, layer.output, rows, work);
  }
  normalise(model, model.decoder_norm, rows, work);
  likeliest(model, rows, k, values, tokens, work);
  for (int r = 0; r < rows; r++)
    for (int i = 0; i < wanted_count; i++)
      if (const int token = row[r].wanted[i]; token >= 0)
        row[r].wanted_values[i] = product(work.quantised, r, model.logits, token) - work.log_z[r];
}

// Threads that wait for work. The caller works, too, and only waits for what others have begun: where they are busy
// with another caller, or gone after a fork, it does everything itself.
class Team {
 public:
  // work(0) ... work(count - 1), on at most `threads` threads.
  void run(int count, int threads, const std::function<void(int)>& work) {
    std::unique_lock<std::mutex> alone(caller_, std::try_to_lock);
    if (threads <= 1 || count <= 1 || !alone) {
      for (int i = 0; i < count; i++) work(i);
      return;
    }
    {
      std::lock_guard<std::mutex> guard(mutex_);
      for (; started_ + 1 < threads; started_++) std::thread([this]() { serve(); }).detach();
      work_ = &work, count_ = count, next_ = 0, helpers_ = threads - 1;
    }
    wake_.notify_all();
    for (int i; (i = next_++) < count;) work(i);
    std::unique_lock<std::mutex> guard(mutex_);
    helpers_ = 0;  // who has not come yet need not come
    done_.wait(guard, [this]() { return active_ == 0; });
  }

 private:
  void serve() {
    std::unique_lock<std::mutex> guard(mutex_);
    for (;;) {
      wake_.wait(guard, [this]() { return helpers_ > 0; });
      helpers_--, active_++;
      const std::function<void(int)>& work = *work_;
      const int count = count_;
      guard.unlock();
      for (int i; (i = next_++) < count;) work(i);
      guard.lock();
      if (--active_ == 0) done_.notify_one();
    }
  }

  std::mutex caller_, mutex_;
  std::condition_variable wake_, done_;
  const std::function<void(int)>* work_ = nullptr;
  std::atomic<int> next_{0};
  int count_ = 0, started_ = 0, helpers_ = 0, active_ = 0;
};

Team& team() {
  static Team* team = new Team;  // never destroyed: its threads wait until the process ends
  return *team;
}

}  // namespace

extern "C" {

// Of this interface; int8.py asks for its own number, so that an old library is not called with new arguments.
int32_t nmt_version() { return 2; }

// `numbers`: E, H, inner width, V, encoder layers, decoder layers. `arrays`: what int8.py lists, in its order.
void* nmt_model(const int32_t* numbers, const void* const* arrays) {
  auto next = [&arrays]() { return *arrays++; };
  auto* model = new Model{numbers[0], numbers[1], numbers[2], numbers[3]};
  auto norm = [&]() { return Norm{(const float*)next(), (const float*)next()}; };
  auto linear = [&](int inputs, int outputs) {
    return Linear{inputs, outputs, (const uint8_t*)next(), (const float*)next(), (const float*)next()};
  };
  const int width = model->width, inner = model->inner;
  for (Embedding* embedding : {&model->source, &model->target}) {
    embedding->tokens = (const float*)next();
    embedding->positions = (const float*)next();
  }
  model->cosines = (const float*)next();
  model->sines = (const float*)next();
  for (int l = 0; l < numbers[4]; l++)
    model->encoder.push_back({norm(), linear(width, 3 * width), linear(width, width), norm(), linear(width, inner), linear(inner, width)});
  model->encoder_norm = norm();
  for (int l = 0; l < numbers[5]; l++)
    model->decoder.push_back({norm(), linear(width, 3 * width), linear(width, width), norm(), linear(width, width),
                              linear(width, 2 * width), linear(width, width), norm(), linear(width, inner), linear(inner, width)});
  model->decoder_norm = norm();
  model->logits = linear(width, model->vocabulary);
  model->forbidden = (const uint8_t*)next();
  return model;
}

void nmt_free(void* model) { delete (Model*)model; }

// memories[s]: bfloat16 (decoder layers, lengths[s], 2, E), to be filled.
void nmt_encode(const void* model, int32_t threads, int32_t sentences, const int32_t* tokens, const int32_t* lengths,
                bf16* const* memories) {
  struct Part {
    int first, end;
    const int32_t* tokens;
  };
  int total = 0;
  for (int s = 0; s < sentences; s++) total += lengths[s];
  const int most = std::min(CHUNK, std::max(LEAST, (total + threads - 1) / threads));
  std::vector<Part> parts;
  for (int s = 0; s < sentences;) {
    int rows = 0, end = s;
    while (end < sentences && (rows == 0 || rows + lengths[end] <= most)) rows += lengths[end++];
    parts.push_back({s, end, tokens});
    tokens += rows;
    s = end;
  }
  team().run(parts.size(), threads, [&](int i) {
    const Part& part = parts[i];
    encode(*(const Model*)model, part.end - part.first, part.tokens, lengths + part.first, memories + part.first);
  });
}

// One step of `sentences` * `beam` rows. A token below 0 marks a row without a hypothesis; its values are -inf.
//   tokens (sentences, beam), positions (sentences), ancestors (sentences, beam, length of `ancestors_length`),
//   caches[s]: bfloat16 (decoder layers, capacities[s], beam, 2, E), memories[s] as nmt_encode filled it
//   -> values and likeliest (sentences, beam, k)
//   wanted (sentences, beam, wanted_count) -> wanted_values, those that are there
void nmt_step(const void* model, int32_t threads, int32_t sentences, int32_t beam, int32_t k, const int32_t* tokens,
              const int32_t* positions, const uint8_t* ancestors, int32_t ancestors_length, bf16* const* caches,
              const int32_t* capacities, const bf16* const* memories, const int32_t* source_lengths, float* values,
              int32_t* likeliest, int32_t wanted_count, const int32_t* wanted, float* wanted_values) {
  std::vector<Row> rows;
  std::vector<int> places;
  for (int s = 0; s < sentences; s++)
    for (int b = 0; b < beam; b++) {
      const int place = s * beam + b;
      if (tokens[place] < 0) {
        std::fill_n(values + size_t(place) * k, k, -INFINITY);
        std::fill_n(likeliest + size_t(place) * k, k, 0);
        continue;
      }
      places.push_back(place);
      rows.push_back({tokens[place], positions[s], ancestors + size_t(place) * ancestors_length, b, beam, caches[s],
                      capacities[s], memories[s], source_lengths[s], wanted + size_t(place) * wanted_count,
                      wanted_values + size_t(place) * wanted_count});
    }
  const int count = rows.size();
  int parts = std::max((count + CHUNK - 1) / CHUNK, std::min(threads, count / LEAST));
  if (parts > 1) parts = (parts + threads - 1) / threads * threads;  // as many for each thread
  const int size = parts ? (count + parts - 1) / parts : 0;
  team().run(parts, threads, [&](int part) {
    const int first = part * size, some = std::min(size, count - first);
    if (some <= 0) return;
    std::vector<float> found_values(size_t(some) * k);
    std::vector<int32_t> found_tokens(size_t(some) * k);
    step(*(const Model*)model, some, rows.data() + first, k, found_values.data(), found_tokens.data(), wanted_count);
    for (int r = 0; r < some; r++) {
      std::copy_n(found_values.data() + size_t(r) * k, k, values + size_t(places[first + r]) * k);
      std::copy_n(found_tokens.data() + size_t(r) * k, k, likeliest + size_t(places[first + r]) * k);
    }
  });
}
}
