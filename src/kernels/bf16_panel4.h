/* kernels/bf16_panel4.h - panels from codes of four bits. Included by bf16_panel.h.
 *
 * The codes go to where their values belong first and are looked up there, in one table that holds the groups
 * of all rows that meet in a vector: four rows forward (64 entries, vpermi2w), two backward (32, vpermw).
 */
#ifndef GR_KERNELS_BF16_PANEL4_H
#define GR_KERNELS_BF16_PANEL4_H
#include "kernels/bf16_codes.h"

#define PANEL_AHEAD                                                                                          \
    512               /* bytes of each row to fetch ahead: 16 rows at once are more than hardware follows    \
                       */
#define ROWS_AHEAD 32 /* rows to fetch ahead, into L2: rows of 4 KB would push each other out of L1 */

/* ---------------------------------------------------------------------------- sixteen rows of codes, forward
 */

typedef struct code_rows {
    const char *codes[16]; /* of k = 0 of the panel; absent rows read the first */
    int64_t scale_at[16];  /* group number 0 of each row in the arrays of scales */
    int present;
    int64_t k0, first; /* k of the panel; group number that column 0 of scale and bias is, -1: none yet */
    int group;         /* column of scale and bias for the block that is next */
    float scale[16][16], bias[16][16];
} code_rows;

INLINE void code_rows_at(code_rows *r, const gr_mat *m, int64_t n0, int v, int ncols, int64_t k0) {
    const int64_t row_bytes = m->cols * m->bits / 8, groups = m->cols / m->group;
    r->present = ncols < v ? 0 : ncols - v < 16 ? ncols - v : 16;
    r->k0 = k0;
    r->first = -1;
    for (int i = 0; i < 16; i++) {
        int64_t row = i < r->present ? n0 + v + i : n0;
        r->codes[i] = (const char *)m->data + row * row_bytes + k0 * m->bits / 8;
        r->scale_at[i] = row * groups;
    }
}

/* Fetches what follows byte `at` of `bytes` of every row: of the rows themselves, then of the next sixteen.
 */
INLINE void code_rows_ahead(const code_rows *r, const gr_mat *m, int64_t at, int64_t bytes) {
    int64_t ahead = at + gr_min_i64(PANEL_AHEAD, bytes);
    if (ahead >= bytes) ahead += 16 * (m->cols * m->bits / 8) - bytes;
    for (int i = 0; i < 16; i++) _mm_prefetch(r->codes[i] + ahead, _MM_HINT_T0);
}

/* Moves on to the group of block k; true when it is another one than before. */
INLINE bool code_rows_group(code_rows *r, const gr_mat *m, row_format f, int k) {
    int64_t col = r->k0 + k;
    if (k && (col & (m->group - 1))) return false; /* groups are powers of two */
    int64_t g = col / m->group, groups = m->cols / m->group;
    if (r->first < 0 || g >= r->first + 16) {
        r->first = g;
        int n = (int)gr_min_i64(16, groups - g);
        for (int i = 0; i < 16; i++) {
            if (i < r->present) {
                pair_scales(r->scale[i], r->bias[i], m, f, r->scale_at[i] + g, n);
            } else {
                _mm512_storeu_ps(r->scale[i], _mm512_setzero_ps());
                _mm512_storeu_ps(r->bias[i], _mm512_setzero_ps());
            }
        }
    }
    r->group = (int)(g - r->first);
    return true;
}

/* ---------------------------------------------------------------------------------------------- forward */

/* The values of rows 4 l + i of a block, l = 0..3, i < 4: lane l of vector i holds row 4 l + i. 32 codes of a
 * row are two quadwords; step j takes codes 4 j .. 4 j + 3 of each, the pairs 2 j, 2 j + 1, 8 + 2 j, 9 + 2 j.
 */
INLINE void panel4_step(uint32_t *d, const __m512i codes[4], const __m512i *low, const __m512i *high, int j) {
    const __m512i lane =
        _mm512_set_epi32(0x300030, 0x300030, 0x300030, 0x300030, 0x200020, 0x200020, 0x200020, 0x200020,
                         0x100010, 0x100010, 0x100010, 0x100010, 0, 0, 0, 0);
    const __m512i shift = _mm512_set1_epi64((long long)(0x000c000800040000 + 0x0010001000100010 * j));
    __m512i v[4], t[4];
    UNROLL
    for (int i = 0; i < 4; i++) {
        __m512i at = _mm512_multishift_epi64_epi8(shift, codes[i]);
        at = _mm512_ternarylogic_epi32(at, _mm512_set1_epi16(15), lane, 0xea); /* (at & 15) | lane */
        v[i] = _mm512_permutex2var_epi16(low[i], at, high[i]);
    }
    t[0] = _mm512_unpacklo_epi32(v[0], v[1]);
    t[1] = _mm512_unpackhi_epi32(v[0], v[1]);
    t[2] = _mm512_unpacklo_epi32(v[2], v[3]);
    t[3] = _mm512_unpackhi_epi32(v[2], v[3]);
    _mm512_store_si512(d + (2 * j) * GR_NR, _mm512_unpacklo_epi64(t[0], t[2]));
    _mm512_store_si512(d + (2 * j + 1) * GR_NR, _mm512_unpackhi_epi64(t[0], t[2]));
    _mm512_store_si512(d + (2 * j + 8) * GR_NR, _mm512_unpacklo_epi64(t[1], t[3]));
    _mm512_store_si512(d + (2 * j + 9) * GR_NR, _mm512_unpackhi_epi64(t[1], t[3]));
}

INLINE __m128i load16(const char *p) {
    __m128i v;
    memcpy(&v, p, 16);
    return v;
}

/* Sixteen columns of the panel from v on. k0 and kc are multiples of 32. */
INLINE void panel4_columns(uint32_t *dst, const gr_mat *m, row_format f, int64_t n0, int v, int ncols,
                           int64_t k0, int kc) {
    code_rows r;
    __m512i low[4], high[4];
    code_rows_at(&r, m, n0, v, ncols, k0);
    for (int k = 0; k < kc; k += 32) {
        if (code_rows_group(&r, m, f, k)) {
            const int g = r.group;
#define SCALE(i) _mm512_set1_ps(r.scale[i][g])
#define BIAS(i)  _mm512_set1_ps(r.bias[i][g])
            UNROLL
            for (int i = 0; i < 4; i++) {
                low[i] = two_tables(f, SCALE(i), BIAS(i), SCALE(4 + i), BIAS(4 + i));
                high[i] = two_tables(f, SCALE(8 + i), BIAS(8 + i), SCALE(12 + i), BIAS(12 + i));
            }
#undef SCALE
#undef BIAS
        }
        __m512i codes[4];
        UNROLL
        for (int i = 0; i < 4; i++) {
            codes[i] = _mm512_castsi128_si512(load16(r.codes[i] + k / 2));
            codes[i] = _mm512_inserti32x4(codes[i], load16(r.codes[4 + i] + k / 2), 1);
            codes[i] = _mm512_inserti32x4(codes[i], load16(r.codes[8 + i] + k / 2), 2);
            codes[i] = _mm512_inserti32x4(codes[i], load16(r.codes[12 + i] + k / 2), 3);
        }
        if ((k & 96) == 0) /* a line of each row */
            code_rows_ahead(&r, m, k / 2, kc / 2);
        UNROLL
        for (int j = 0; j < 4; j++) panel4_step(dst + (int64_t)(k / 2) * GR_NR + v, codes, low, high, j);
    }
}

static void panel4_trans(void *dst, const gr_mat *m, row_format f, int64_t n0, int ncols, int64_t k0,
                         int kc) {
    for (int v = 0; v < GR_NR; v += 16)
        if (f == ROW_CODES4)
            panel4_columns(dst, m, ROW_CODES4, n0, v, ncols, k0, kc);
        else
            panel4_columns(dst, m, ROW_MX4, n0, v, ncols, k0, kc);
}

/* --------------------------------------------------------------------------------------------- backward */

/* 32 columns of rows k and k + 1: a dword of each (8 columns) makes a quadword, whose words are columns and
 * rows in turn; the table has row k's values below row k + 1's. */
INLINE void panel4_two_rows(uint32_t *dst, __m128i a, __m128i b, __m512i table) {
    const __m512i shift = _mm512_set_epi16(60, 28, 56, 24, 52, 20, 48, 16, 44, 12, 40, 8, 36, 4, 32, 0, 60,
                                           28, 56, 24, 52, 20, 48, 16, 44, 12, 40, 8, 36, 4, 32, 0);
    const __m512i first = _mm512_set_epi64(1, 1, 1, 1, 0, 0, 0, 0);
    const __m512i odd = _mm512_set1_epi32(16 << 16);
    __m128i half[2] = {_mm_unpacklo_epi32(a, b), _mm_unpackhi_epi32(a, b)};
    UNROLL
    for (int h = 0; h < 2; h++) {
        __m512i at = _mm512_permutexvar_epi64(first, _mm512_castsi128_si512(half[h]));
        at = _mm512_multishift_epi64_epi8(shift, at);
        at = _mm512_ternarylogic_epi32(at, _mm512_set1_epi16(15), odd, 0xea);
        _mm512_store_si512(dst + 16 * h, _mm512_permutexvar_epi16(at, table));
    }
}

INLINE __m512i panel4_table(const gr_mat *m, row_format f, int64_t a, int64_t b) {
    const __m512 none = _mm512_set1_ps(-0.0f);
    if (f == ROW_MX4) {
        __m512 sa = _mm512_permutexvar_ps(_mm512_setzero_si512(), micro_scales16(m->scales, f, a, 1));
        __m512 sb = _mm512_permutexvar_ps(_mm512_setzero_si512(), micro_scales16(m->scales, f, b, 1));
        return two_tables(f, sa, none, sb, none);
    }
    return two_tables(f, scale1(m->scales, m->dtype, a), scale1(m->biases, m->dtype, a),
                      scale1(m->scales, m->dtype, b), scale1(m->biases, m->dtype, b));
}

INLINE void panel4_rows_dtype(uint32_t *dst, const gr_mat *m, row_format f, int64_t n0, int ncols, int64_t k0,
                              int kc) {
    const int64_t row_bytes = m->cols / 2, groups = m->cols / m->group;
    const int64_t width = m->layout == GR_MX ? 1 : m->dtype == GR_F32 ? 4 : 2; /* bytes of a scale */
    for (int k = 0; k < kc; k += 2, dst += GR_NR) {
        const char *at = (const char *)m->data + (k0 + k) * row_bytes + n0 / 2;
        const bool pair = k + 1 < kc;
        int64_t scale = (k0 + k) * groups + n0 / m->group;
        __m512i table = _mm512_setzero_si512();
        _mm_prefetch(at + ROWS_AHEAD * row_bytes, _MM_HINT_T1);
        _mm_prefetch(at + (ROWS_AHEAD + 1) * row_bytes, _MM_HINT_T1);
        _mm_prefetch((const char *)m->scales + (scale + ROWS_AHEAD * groups) * width, _MM_HINT_T1);
        if (f == ROW_CODES4)
            _mm_prefetch((const char *)m->biases + (scale + ROWS_AHEAD * groups) * width, _MM_HINT_T1);
        UNROLL
        for (int h = 0; h < 2; h++) {
            if (32 * h >= ncols) {
                _mm512_store_si512(dst + 32, _mm512_setzero_si512());
                _mm512_store_si512(dst + 48, _mm512_setzero_si512());
                break;
            }
            if (h == 0 || ((n0 + 32) & (m->group - 1)) == 0) {
                table = panel4_table(m, f, scale, pair ? scale + groups : scale);
                if (!pair) table = _mm512_inserti64x4(table, _mm256_setzero_si256(), 1);
                scale++;
            }
            __m128i a = load16(at + 16 * h);
            panel4_two_rows(dst + 32 * h, a, pair ? load16(at + row_bytes + 16 * h) : a, table);
        }
    }
}

/* n0 and ncols are multiples of 32. */
static void panel4_rows(void *dst, const gr_mat *m, row_format f, int64_t n0, int ncols, int64_t k0, int kc) {
    gr_mat typed = *m; /* a type known while compiling */
    if (f == ROW_MX4) {
        panel4_rows_dtype(dst, m, ROW_MX4, n0, ncols, k0, kc);
    } else if (m->dtype == GR_F16) {
        typed.dtype = GR_F16;
        panel4_rows_dtype(dst, &typed, ROW_CODES4, n0, ncols, k0, kc);
    } else if (m->dtype == GR_BF16) {
        typed.dtype = GR_BF16;
        panel4_rows_dtype(dst, &typed, ROW_CODES4, n0, ncols, k0, kc);
    } else {
        panel4_rows_dtype(dst, m, ROW_CODES4, n0, ncols, k0, kc);
    }
}

#endif
