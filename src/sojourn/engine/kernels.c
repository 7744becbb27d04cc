/* What a model does between its matrix products, in one pass over memory each; and the products of few rows where oneDNN's are slower.

   Compiled by engine/native.py at first use, once with T = float and once with -DBF16 for bfloat16.  All sums are in float.
   Rows are independent of each other, so a row's bits do not depend on who shares its batch. */
#include <math.h>
#include <stdint.h>
#include <string.h>

#ifdef BF16
typedef uint16_t T;
static inline float up(T x) { uint32_t bits = (uint32_t)x << 16; float f; memcpy(&f, &bits, 4); return f; }
static inline T down(float f) { /* to the nearest, ties to even */
    uint32_t bits; memcpy(&bits, &f, 4);
    return (T)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}
#else
typedef float T;
static inline float up(T x) { return x; }
static inline T down(float f) { return f; }
#endif

/* e^x for x <= 88, relative error below 2e-7: 2^n times a polynomial of the rest (Cephes' coefficients). */
static inline float exponential(float x) {
    x = x < -87.0f ? -87.0f : x;
    float n = rintf(x * 1.44269504f);
    float r = x - n * 0.693359375f + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    uint32_t bits = (uint32_t)((int32_t)n + 127) << 23;
    float scale; memcpy(&scale, &bits, 4);
    return p * scale;
}

/* out = x / rms(x) * weight, for each of `rows` rows of `width`. */
void norm(const T *x, const T *weight, T *out, int64_t rows, int64_t width, float eps) {
#pragma omp parallel for
    for (int64_t r = 0; r < rows; r++) {
        const T *in = x + r * width;
        T *to = out + r * width;
        float sum = 0;
        for (int64_t i = 0; i < width; i++) sum += up(in[i]) * up(in[i]);
        float inverse = 1.0f / sqrtf(sum / width + eps);
        for (int64_t i = 0; i < width; i++) to[i] = down(up(in[i]) * inverse * up(weight[i]));
    }
}

#define BAND 64

/* Backwards through `norm`: d_x, and d_weight as one row for each BAND rows, to be added up. */
void norm_back(const T *x, const T *weight, const T *d_out, T *d_x, float *d_weight, int64_t rows, int64_t width, float eps) {
#pragma omp parallel for
    for (int64_t first = 0; first < rows; first += BAND) {
        float *part = d_weight + first / BAND * width;
        for (int64_t i = 0; i < width; i++) part[i] = 0;
        for (int64_t r = first; r < rows && r < first + BAND; r++) {
            const T *in = x + r * width, *d = d_out + r * width;
            T *to = d_x + r * width;
            float sum = 0, dot = 0;
            for (int64_t i = 0; i < width; i++) sum += up(in[i]) * up(in[i]), dot += up(d[i]) * up(weight[i]) * up(in[i]);
            float inverse = 1.0f / sqrtf(sum / width + eps), less = dot * inverse * inverse * inverse / width;
            for (int64_t i = 0; i < width; i++) {
                to[i] = down(up(d[i]) * up(weight[i]) * inverse - up(in[i]) * less);
                part[i] += up(d[i]) * up(in[i]) * inverse;
            }
        }
    }
}

static inline float sigmoid(float x) { return 1.0f / (1.0f + exponential(x < -88.0f ? 88.0f : -x)); }

/* out (rows, width) = silu(x) * other, whose rows lie `stride` apart. */
void gate(const T *x, const T *other, T *out, int64_t rows, int64_t width, int64_t stride) {
#pragma omp parallel for
    for (int64_t r = 0; r < rows; r++)
        for (int64_t i = 0; i < width; i++) {
            float a = up(x[r * stride + i]);
            out[r * width + i] = down(a * sigmoid(a) * up(other[r * stride + i]));
        }
}

/* Backwards through `gate`, all of (rows, width). */
void gate_back(const T *x, const T *other, const T *d_out, T *d_x, T *d_other, int64_t rows, int64_t width) {
#pragma omp parallel for
    for (int64_t i = 0; i < rows * width; i++) {
        float a = up(x[i]), d = up(d_out[i]), s = sigmoid(a);
        d_x[i] = down(d * up(other[i]) * s * (1.0f + a * (1.0f - s)));
        d_other[i] = down(d * a * s);
    }
}

/* Rotate the first `heads` heads of each row, in place (RoPE, arXiv 2104.09864).  Rows of x lie `stride` apart; cosine, sine: (rows, dim). */
void rotate(T *x, const T *cosine, const T *sine, int64_t rows, int64_t heads, int64_t dim, int64_t stride) {
    int64_t half = dim / 2;
#pragma omp parallel for
    for (int64_t r = 0; r < rows; r++) {
        const T *c = cosine + r * dim, *s = sine + r * dim;
        for (int64_t h = 0; h < heads; h++) {
            T *low = x + r * stride + h * dim, *high = low + half;
            for (int64_t i = 0; i < half; i++) {
                float a = up(low[i]), b = up(high[i]);
                low[i] = down(a * up(c[i]) - b * up(s[i]));
                high[i] = down(b * up(c[half + i]) + a * up(s[half + i]));
            }
        }
    }
}

/* cache[slot[r], :, at[r]] = x[:, r]: new keys or values of each row into its slot.  cache: (slots, heads, capacity, dim).  Of x, rows lie
   `stride` apart and heads `apart`. */
void store(const T *x, T *cache, const int64_t *slot, const int64_t *at, int64_t rows, int64_t heads, int64_t dim, int64_t stride,
           int64_t apart, int64_t capacity) {
    for (int64_t r = 0; r < rows; r++)
        for (int64_t h = 0; h < heads; h++)
            memcpy(cache + ((slot[r] * heads + h) * capacity + at[r]) * dim, x + r * stride + h * apart, dim * sizeof(T));
}

#define TILE 32
#define MOST 16 /* heads that share a key head, at most */
#define WIDE 256 /* of a head, at most */

/* `count` rows of `dim` numbers in float: where they lie, or copied into `room`. */
static inline const float *floats(const T *x, float *room, int64_t count, int64_t dim) {
#ifdef BF16
    for (int64_t i = 0; i < count * dim; i++) room[i] = up(x[i]);
    return room;
#else
    return x;
#endif
}

/* What a query vector of `attend` is, and where its result goes. */
typedef struct { const T *query; T *out; float *lse; } Head;

/* For scores 1, 3 | 5 in tiles of two: after the first tile top = 3, total = e^-2 + 1, sum = e^-2 v0 + v1.  The second has a higher score, so what
   is there is scaled by keep = e^(3 - 5) before its own joins: top = 5, total = total * keep + 1, sum = sum * keep + v2.  At the end
   out = sum / total and lse = top + log(total).

   `attend_heads`; a constant `dim` lets sums stay in registers. */
static inline __attribute__((always_inline)) void attend_wide(const Head *head, int64_t heads, const T *keys, const T *values, int64_t from,
                                                              int64_t to, int64_t dim, float scale, int more) {
    float q[MOST][WIDE], sum[MOST][WIDE], top[MOST], total[MOST], p[MOST][TILE], room[TILE * WIDE];
    for (int64_t g = 0; g < heads; g++) {
        top[g] = -INFINITY, total[g] = 0;
        for (int64_t i = 0; i < dim; i++) q[g][i] = scale * up(head[g].query[i]), sum[g][i] = 0;
    }
    for (int64_t first = from; first < to; first += TILE) {
        int64_t count = to - first < TILE ? to - first : TILE;
        const float *key = floats(keys + first * dim, room, count, dim);
        for (int64_t j = 0; j < count; j++)
            for (int64_t g = 0; g < heads; g++) {
                float dot = 0;
                for (int64_t i = 0; i < dim; i++) dot += q[g][i] * key[j * dim + i];
                p[g][j] = dot;
            }
        const float *value = floats(values + first * dim, room, count, dim);
        for (int64_t g = 0; g < heads; g++) {
            float most = top[g], part = 0;
            for (int64_t j = 0; j < count; j++) most = p[g][j] > most ? p[g][j] : most;
            for (int64_t j = 0; j < count; j++) part += p[g][j] = exponential(p[g][j] - most);
            float keep = first == from ? 0.0f : exponential(top[g] - most);
            total[g] = total[g] * keep + part, top[g] = most;
            for (int64_t at = 0; at < dim; at += 64) {
                int64_t width = dim - at < 64 ? dim - at : 64;
                float added[64] = {0};
                for (int64_t j = 0; j < count; j++)
                    for (int64_t i = 0; i < width; i++) added[i] += p[g][j] * value[j * dim + at + i];
                for (int64_t i = 0; i < width; i++) sum[g][at + i] = sum[g][at + i] * keep + added[i];
            }
        }
    }
    for (int64_t g = 0; g < heads; g++) {
        float own = total[g] > 0 ? top[g] + logf(total[g]) : -INFINITY, inverse = total[g] > 0 ? 1.0f / total[g] : 0.0f, kept = 0;
        T *out = head[g].out;
        if (more) {
            float old = *head[g].lse, most = old > own ? old : own, both = most + logf(exponential(old - most) + exponential(own - most));
            kept = exponential(old - both), inverse *= exponential(own - both), own = both;
        }
        for (int64_t i = 0; i < dim; i++) out[i] = down(sum[g][i] * inverse + (more ? kept * up(out[i]) : 0.0f));
        *head[g].lse = own;
    }
}

/* Up to MOST vectors over the same keys and values [from, to).  more: `out` and `lse` hold attention over other keys, which is joined. */
static void attend_heads(const Head *head, int64_t heads, const T *keys, const T *values, int64_t from, int64_t to, int64_t dim, float scale,
                         int more) {
    if (dim == 64) attend_wide(head, heads, keys, values, from, to, 64, scale, more);
    else if (dim == 128) attend_wide(head, heads, keys, values, from, to, 128, scale, more);
    else attend_wide(head, heads, keys, values, from, to, dim, scale, more);
}

/* Attention of single tokens over their slots' keys and values, by tiles with a running maximum (FlashAttention-2, arXiv 2307.08691).

   query: (rows, kv_heads, group, dim), rows `stride` apart.  keys, values: (slots, kv_heads, capacity, dim).
   slot, from, to: for each row, whose keys, and which of them, [from, to).
   out: (rows, kv_heads, group, dim).  lse: (rows, kv_heads, group), the log of the denominators; -inf where nothing is seen. */
void attend(const T *query, const T *keys, const T *values, const int64_t *slot, const int64_t *from, const int64_t *to, T *out, float *lse,
            int64_t rows, int64_t kv_heads, int64_t group, int64_t dim, int64_t stride, int64_t capacity, float scale) {
#pragma omp parallel for collapse(2)
    for (int64_t r = 0; r < rows; r++)
        for (int64_t k = 0; k < kv_heads; k++) {
            int64_t base = (slot[r] * kv_heads + k) * capacity * dim, place = (r * kv_heads + k) * group;
            Head head[MOST];
            for (int64_t g = 0; g < group; g++)
                head[g] = (Head){query + r * stride + (k * group + g) * dim, out + (place + g) * dim, lse + place + g};
            attend_heads(head, group, keys + base, values + base, from[r], to[r], dim, scale, 0);
        }
}

/* The same over keys and values (kv_heads, length, dim) that the rows at `flat` share, joined to what `out` and `lse` hold. */
void attend_shared(const T *query, const T *keys, const T *values, const int64_t *flat, T *out, float *lse, int64_t rows, int64_t kv_heads,
                   int64_t group, int64_t dim, int64_t stride, int64_t length, float scale) {
    int64_t together = MOST / group;
#pragma omp parallel for collapse(2)
    for (int64_t first = 0; first < rows; first += together)
        for (int64_t k = 0; k < kv_heads; k++) {
            int64_t base = k * length * dim, heads = 0;
            Head head[MOST];
            for (int64_t r = first; r < rows && r < first + together; r++)
                for (int64_t g = 0; g < group; g++) {
                    int64_t place = (flat[r] * kv_heads + k) * group + g;
                    head[heads++] = (Head){query + flat[r] * stride + (k * group + g) * dim, out + place * dim, lse + place};
                }
            attend_heads(head, heads, keys + base, values + base, 0, length, dim, scale, 1);
        }
}

#define BLOCK 256

static inline float mass(float less) { return less < -87.0f ? 0.0f : exponential(less); }

/* For each row of logits (rows, width): the token whose part of [0, 1) holds `uniform`, and its log-probability.  -inf has no part. */
void draw(const T *logits, const double *uniform, int64_t *token, float *logp, int64_t rows, int64_t width) {
#pragma omp parallel for
    for (int64_t r = 0; r < rows; r++) {
        int64_t blocks = (width + BLOCK - 1) / BLOCK, block = 0, chosen = 0;
        const T *x = logits + r * width;
        float top = -INFINITY, part[blocks];
        double total = 0, sum = 0;
        for (int64_t i = 0; i < width; i++) top = up(x[i]) > top ? up(x[i]) : top;
        for (int64_t b = 0; b < blocks; b++) {
            int64_t end = (b + 1) * BLOCK < width ? (b + 1) * BLOCK : width;
            part[b] = 0;
            for (int64_t i = b * BLOCK; i < end; i++) part[b] += mass(up(x[i]) - top);
            total += part[b];
        }
        for (int64_t b = 0; b < blocks; b++) /* the last that has a part, if rounding left the target beyond all */
            if (part[b] > 0) {
                block = b;
                if (sum + part[b] > uniform[r] * total) break;
                sum += part[b];
            }
        if (sum + part[block] <= uniform[r] * total) sum -= part[block];
        for (int64_t i = block * BLOCK; i < width && i < (block + 1) * BLOCK; i++) {
            float own = mass(up(x[i]) - top);
            if (own > 0) {
                chosen = i;
                sum += own;
                if (sum > uniform[r] * total) break;
            }
        }
        token[r] = chosen;
        logp[r] = (float)(up(x[chosen]) - top - log(total));
    }
}

/* Products of few rows with weights in panels: PANEL columns side by side, STEP numbers of each at a time, so that a tile of ROWS rows
   reads them in order and keeps its sums in registers.  Only where a panel has its instructions, and not where the processor multiplies
   whole tiles (AMX).  A sum runs over k in order, whatever the number of rows. */
#if defined(BF16) ? defined(__AVX512BF16__) && !defined(__AMX_BF16__) : defined(__AVX512F__)
#include <immintrin.h>

#define ROWS 8
#define VECTORS 3
#define PANEL (16 * VECTORS)
#ifdef BF16
#define STEP 2
typedef __m512bh Vector;
static inline Vector all(const T *x) { int32_t pair; memcpy(&pair, x, 4); return (Vector)_mm512_set1_epi32(pair); }
static inline Vector load(const T *x) { return (Vector)_mm512_loadu_si512(x); }
static inline __m512 plus(__m512 sum, Vector a, Vector b) { return _mm512_dpbf16_ps(sum, a, b); }
#else
#define STEP 1
typedef __m512 Vector;
static inline Vector all(const T *x) { return _mm512_set1_ps(*x); }
static inline Vector load(const T *x) { return _mm512_loadu_ps(x); }
static inline __m512 plus(__m512 sum, Vector a, Vector b) { return _mm512_fmadd_ps(a, b, sum); }
#endif

/* `rows`, a constant where this is used, of one panel's `count` columns. */
static inline __attribute__((always_inline)) void tile(const T *x, const T *panel, const T *bias, const T *other, T *out, int rows,
                                                       int64_t width, int64_t columns, int64_t count) {
    __m512 sum[ROWS][VECTORS];
    float row[PANEL];
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < VECTORS; v++) sum[r][v] = _mm512_setzero_ps();
    for (int64_t k = 0; k < width; k += STEP) {
        Vector b[VECTORS];
        for (int v = 0; v < VECTORS; v++) b[v] = load(panel + k * PANEL + v * 16 * STEP);
        for (int r = 0; r < rows; r++) {
            Vector a = all(x + r * width + k);
            for (int v = 0; v < VECTORS; v++) sum[r][v] = plus(sum[r][v], a, b[v]);
        }
    }
    for (int r = 0; r < rows; r++) {
        for (int v = 0; v < VECTORS; v++) _mm512_storeu_ps(row + 16 * v, sum[r][v]);
        if (bias)
            for (int64_t i = 0; i < count; i++) row[i] += up(bias[i]);
        if (other)
            for (int64_t i = 0; i < count; i++) row[i] += up(other[r * columns + i]);
        for (int64_t i = 0; i < count; i++) out[r * columns + i] = down(row[i]);
    }
}

int64_t panel(void) { return PANEL; }

/* For PANEL = 3 and STEP = 2, a weight of 4 columns a, b, c, d and width 4 lies as
       a0 a1 b0 b1 c0 c1   a2 a3 b2 b3 c2 c3  |  d0 d1 . . . .   d2 d3 . . . .      (| between panels, 0 for .)
   so that `tile` reads one line of numbers from front to back, the same for all rows. */
/* weight (columns, width) into panels (columns / PANEL, width / STEP, PANEL, STEP), the last one filled up with zeros. */
void pack(const T *weight, T *panels, int64_t columns, int64_t width) {
#pragma omp parallel for
    for (int64_t first = 0; first < columns; first += PANEL)
        for (int64_t k = 0; k < width; k += STEP)
            for (int64_t i = 0; i < PANEL; i++)
                for (int64_t e = 0; e < STEP; e++)
                    panels[first * width + k * PANEL + i * STEP + e] = first + i < columns ? weight[(first + i) * width + k + e] : 0;
}

/* out (rows, columns) = x (rows, width) times `panels`, plus bias (columns) and other (rows, columns), both of which may be null. */
void multiply(const T *x, const T *panels, const T *bias, const T *other, T *out, int64_t rows, int64_t width, int64_t columns) {
#pragma omp parallel for collapse(2)
    for (int64_t first = 0; first < columns; first += PANEL)
        for (int64_t r = 0; r < rows; r += ROWS) {
            int64_t count = columns - first < PANEL ? columns - first : PANEL;
            const T *in = x + r * width, *own = panels + first * width, *more = bias ? bias + first : 0;
            const T *add = other ? other + r * columns + first : 0;
            T *to = out + r * columns + first;
#define CASE(n) case n: tile(in, own, more, add, to, n, width, columns, count); break;
            switch (rows - r < ROWS ? rows - r : ROWS) { CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7) CASE(8) }
        }
}
#else
int64_t panel(void) { return 0; }
#endif
