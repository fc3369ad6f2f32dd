/* kernels/kernels.h - the table of compute kernels, chosen at run time, and the one matmul driver above it.
 *
 * What it does   arithmetic on arrays whose shapes were checked by bind.
 * May include    base.
 * Never          allocation, files, errors, threads of its own (the matmul driver runs on the context's
 * pool).
 *
 * Two numeric modes. In bf16 compute, activations are stored as bf16 and every sum is f32; in fp32 compute,
 * activations are f32. `act` below means an array of the mode's activation type. A table is one (instruction
 * set, mode) pair. Results may differ between instruction sets by rounding, never between thread counts or
 * slicings: each output element is summed over k in one fixed order that depends on shapes along k only.
 *
 * Glossary: T tokens; M rows of activations; N columns of the result; K length of the sums; h hidden; d
 * head_dim.
 */
#ifndef GR_KERNELS_KERNELS_H
#define GR_KERNELS_KERNELS_H
#include "base/dtype.h"
#include "base/memory.h"
#include "base/pool.h"
#include "kernels/profile.h"

/* ------------------------------------------------------------------ matrices that feed a panel */

/* A stored matrix, row-major [rows, cols]; for weights rows = out, cols = in. Everything is borrowed. */
typedef enum gr_layout { GR_DENSE, GR_AFFINE, GR_MX } gr_layout;
typedef struct gr_mat {
    gr_layout layout;
    gr_dtype dtype;  /* GR_DENSE: F32, BF16 or F16. GR_AFFINE: of scales and biases (F32, BF16 or F16).
                        GR_MX: U8, of scales */
    int bits, group; /* GR_AFFINE: 2,3,4,5,6,8 bits; 32, 64 or 128 codes share a scale and a bias.
                        GR_MX: 4 bits are E2M1, 8 are E4M3; 32 codes share a scale E8M0 (mxfp4, mxfp8), or
                        16 one that is E4M3 (nvfp4) */
    int64_t rows, cols;
    int64_t ld;                  /* GR_DENSE: elements from one row to the next */
    const void *data;            /* GR_DENSE: elements. Else: rows of cols*bits/8 bytes, code i at bit i*bits,
                                    little endian (as MLX packs them); may be unaligned */
    const void *scales, *biases; /* [rows, cols/group], may be unaligned. GR_AFFINE: value = scale * code +
                                    bias; GR_MX: value = scale * float of the code, no biases */
    float alpha;                 /* every value is multiplied by it (1 for weights; LoRA's scale) */
} gr_mat;

/* f32 numbers [rows, cols] as an operand: what trains. */
static inline gr_mat gr_mat_f32(const float *data, int64_t rows, int64_t cols, float alpha) {
    return (gr_mat){.layout = GR_DENSE,
                    .dtype = GR_F32,
                    .rows = rows,
                    .cols = cols,
                    .ld = cols,
                    .data = data,
                    .alpha = alpha};
}

/* `count` matrices of one shape: the rows of `all`, one matrix after another, or of a dense one each at a
 * place of its own. */
typedef struct gr_stack {
    gr_mat all;            /* [count * rows, cols]; data NULL with places */
    int64_t count;         /* 0: none */
    const void *const *at; /* [count] first element of each; NULL: as `all` says */
} gr_stack;
gr_mat gr_stack_mat(const gr_stack *stack, int64_t i);

/* Elements [row, col0 .. col0+n) of a matrix as f32, exactly (alpha applied). Scalar reference, any layout.
 */
void gr_mat_row(float *out, const gr_mat *mat, int64_t row, int64_t col0, int64_t n);
/* Bytes of one row, with its scales and biases. */
int64_t gr_mat_row_bytes(const gr_mat *mat);
/* Asks the processor to bring rows [row, row + n) into its second cache; those beyond the end are left out.
 */
void gr_mat_prefetch(const gr_mat *mat, int64_t row, int64_t n);

/* ------------------------------------------------------------------ tile shapes */

#define GR_NR   64  /* columns of a panel, all instruction sets: 4 zmm of f32 */
#define GR_MR   6   /* rows of a tile: 6 x 64 f32 = 24 of 32 zmm accumulators */
#define GR_MBLK 516 /* most rows of one task: a multiple of GR_MR; its f32 tile (129 KB) stays in L2 */

/* One term of a sum of products: A[rows, 2*?] times a panel. */
typedef struct gr_term {
    const void *a;     /* act, row-major, first row and first k of this term */
    int64_t lda;       /* elements from row to row */
    const void *panel; /* made by k->panel: kc x 64, zero-filled to an even kc in pair mode */
    int kc;            /* length of this part of the sum (a row of `a` is readable for kc elements) */
} gr_term;

/* Where the softmax over the N columns of a result goes instead of the result: gr_epilogue.softmax. */
typedef struct gr_softmax {
    void *p; /* act [M, N]: exp(logit - top of its panel); NULL: not wanted */
    int64_t ldp;
    int64_t panels;        /* ceil(N / 64) */
    float *top, *sum;      /* [M, panels]: largest logit of the panel, sum of its p (before rounding) */
    const int32_t *target; /* [M] column */
    float *target_logit;   /* [M] */
    bool *leads;           /* [M]: no logit of its panel is larger, none before it equal */
    float cap;             /* a logit is first cap * tanh(logit / cap); 0: as it is */
} gr_softmax;

/* What happens to a finished 6 x 64 tile of f32 sums. Optional steps run in the order of the fields. */
typedef struct gr_epilogue {
    void *y; /* destination [M, N] */
    int64_t ldy;
    bool y_f32;                /* y is f32, else act */
    const float *column_scale; /* * column_scale[n]; NULL: 1 */
    const float *bias;         /* + bias[n]; NULL: none */
    const void *residual;      /* + residual[m, n] (act, leading dimension ld_residual); NULL: none */
    int64_t ld_residual;
    bool accumulate; /* y += (f32 only) */
    /* Gradient of one row of data, added into a binary counter over rows: element e of row number `row` is
     * carried up through slots[0..] as long as the bits of `row` are set, so that n rows always sum as the
     * same tree. NULL: plain store. Replaces y (slots[i] is f32 with leading dimension ldy; the one stored to
     * may be one of those read). */
    float *const *slots;
    uint64_t row;
    const gr_softmax *softmax; /* NULL, or instead of everything above */
} gr_epilogue;

/* Slots of a gradient tree at most. */
#define GR_TREE_LEVELS 40

/* e^8 times the weight that a maximum was chosen for: f32 and bf16 lose nothing up there. */
#define GR_SOFTMAX_SLACK 8.0f

/* ------------------------------------------------------------------ the table */

typedef struct gr_kernels {
    const char *isa;  /* "avx512bf16", "avx512", "avx2", "neonbf16", "neon", "portable" */
    bool fp32;        /* activations are f32, else bf16 */
    int act_bytes;    /* 2 or 4 */
    bool pair;        /* panels hold bf16 pairs [k/2][64][2]; else f32 [k][64] */
    bool exact_codes; /* matvec takes affine codes of 2, 4 and 8 bits as they are, others as a panel has them
                       */
    int kc;           /* most k of one pass over panels; a multiple of 128 */

    /* Panel of op(mat): panel[k][n] = mat[n0+n, k0+k] (trans: y = x W^T) or mat[k0+k, n0+n] (not trans: dx =
     * dy W), n < ncols <= 64, k < kc; columns from ncols to 64 and an odd last k are zero. dst is 64-byte
     * aligned. */
    void (*panel)(void *dst, const gr_mat *mat, bool trans, int64_t n0, int ncols, int64_t k0, int kc);
    /* The same from activations (attention's Q K V, and gradients of LoRA): rows of `ld` act elements. */
    void (*panel_act)(void *dst, const void *act, int64_t ld, bool trans, int64_t n0, int ncols, int64_t k0,
                      int kc);
    /* c[rows, 64] (=, or += with accumulate) sum over terms; rows <= GR_MR; c is f32 with leading dimension
     * ldc. */
    void (*tile)(const gr_term *terms, int nterms, float *c, int64_t ldc, int rows, bool accumulate);
    /* The same where only the first `cols` columns are wanted, and the others may stay as they are; NULL:
     * tile does. The bits are tile's. */
    void (*tile_narrow)(const gr_term *terms, int nterms, float *c, int64_t ldc, int rows, int cols,
                        bool accumulate);
    /* Finishes c[rows, cols] into rows m0.., columns n0.. of the epilogue's destination. */
    void (*finish)(const gr_epilogue *e, const float *c, int64_t ldc, int64_t m0, int rows, int64_t n0,
                   int cols);

    /* act[n] <-> f32[n] */
    void (*to_act)(void *y, const float *x, int64_t n);
    void (*to_f32)(float *y, const void *x, int64_t n);
    /* y[c, r] = x[r, c]: act [rows, cols] -> act [cols, rows] with leading dimensions ldx, ldy. */
    void (*transpose)(void *y, int64_t ldy, const void *x, int64_t ldx, int64_t rows, int64_t cols);

    /* y = x / sqrt(mean(x^2) + eps) * weight, one row of n; rstd receives 1/sqrt(..). x, y act; weight f32.
     */
    void (*rmsnorm)(void *y, float *rstd, const void *x, const float *weight, float eps, int64_t n);
    /* dx += d rmsnorm: dx f32 [n]; dy f32 or act per dy_f32; recomputes the normalized x from x and rstd. */
    void (*rmsnorm_back)(float *dx, const void *dy, bool dy_f32, const void *x, float rstd,
                         const float *weight, int64_t n);
    /* LayerNorm, by the same rules: y = (x - mean) / sqrt(variance + eps) * weight + bias. */
    void (*layernorm)(void *y, float *rstd, const void *x, const float *weight, const float *bias, float eps,
                      int64_t n);
    void (*layernorm_back)(float *dx, const void *dy, bool dy_f32, const void *x, float rstd,
                           const float *weight, int64_t n);
    /* Rotates pairs (i, i + half) for i < half of one head's vector of d elements, in place; dir -1 is the
     * inverse (backward). cos, sin are f32 [half]. 2*half <= d; elements beyond stay. */
    void (*rope)(void *x, const float *cosine, const float *sine, int half, int dir);
    void (*rope_f32)(float *x, const float *cosine, const float *sine, int half, int dir);
    /* y = silu(gate) * up, n elements, act. */
    void (*swiglu)(void *y, const void *gate, const void *up, int64_t n);
    /* dgate, dup (act) from dy; dgate may be gate's memory and dup up's. */
    void (*swiglu_back)(void *dgate, void *dup, const void *dy, const void *gate, const void *up, int64_t n);
    /* The same with GELU, by its tanh form, in silu's place; and without up. dx may be x's memory. */
    void (*geglu)(void *y, const void *gate, const void *up, int64_t n);
    void (*geglu_back)(void *dgate, void *dup, const void *dy, const void *gate, const void *up, int64_t n);
    void (*gelu)(void *y, const void *x, int64_t n);
    void (*gelu_back)(void *dx, const void *dy, const void *x, int64_t n);

    /* s[n] f32 = cap * tanh(scale * s / cap): scores before a softmax of scale 1. */
    void (*soft_cap)(float *s, int64_t n, float scale, float cap);
    /* The same of s[rows][64] before softmax_block_back with scale 1, whose ds is then the gradient of
     * scale * s as it was: dp [rows][64] changes, too. delta [64] as there. */
    void (*soft_cap_back)(float *s, float *dp, int rows, float scale, float cap, const float *delta);
    /* One query against a block of keys: s[n] f32 scores in, p[n] = exp(scale*s - new_max) act out for lo <=
     * i < hi, 0 outside. *max and *sum are updated (online softmax over blocks); returns exp(old_max -
     * new_max), the factor for the output accumulated so far. A row with lo >= hi gives zeros and returns 1.
     */
    float (*softmax_keys)(void *p, const float *s, int n, int lo, int hi, float scale, float *max,
                          float *sum);
    /* A block of attention scores s[n][64]: keys down, 64 queries across. Query c sees key i where i <= c +
     * diag and, with a window, i > c + diag - window. The scores become a panel of length n (as k->panel
     * makes them; it may be s's memory where panels are f32): exp(scale * s - max), 0 where unseen. max[64]
     * and sum[64] go on over the blocks of a query (from -infinity and 0). A maximum stays while no score
     * passes it by more than GR_SOFTMAX_SLACK: the weights may exceed 1, their quotient is the same. True if
     * one moved; then factor[64] is what the sums so far are multiplied by (sum is already). */
    bool (*softmax_block)(void *panel, const float *s, int n, int diag, int window, float scale, float *max,
                          float *sum, float *factor);
    /* Its backward: p = exp(scale * s - lse) and ds = p * (dp - delta), 0 where unseen (the gradient of scale
     * * s). s, dp [n][64] f32; lse, delta [64]; p, ds [n][64] act; panel: ds once more, as a panel of length
     * n. */
    void (*softmax_block_back)(void *p, void *ds, void *panel, const float *s, const float *dp, int n,
                               int diag, int window, float scale, const float *lse, const float *delta);
    /* y[rows][64] = x[rows][64] * weight[64]; y f32 or act; y may be x's memory. */
    void (*weigh_columns)(void *y, bool y_f32, const float *x, const float *weight, int64_t rows);
    /* y[c][r] (=, or += with accumulate) scale * x[r][c]: x f32 [rows][64], c < cols <= 64. */
    void (*add_transposed)(float *y, int64_t ldy, const float *x, int rows, int cols, float scale,
                           bool accumulate);
    /* Both panels of act x[rows][d], rows <= 64: `along` as panel_act(trans) of length d, and `across` as
     * panel_act of length rows for every 64 columns, each gr_panel_bytes(64) from the one before. */
    void (*panel_both)(void *along, void *across, const void *x, int64_t ld, int rows, int64_t d);
    /* y[i] = dot product of rows i of a and b, act [rows][n] with leading dimension ld, f32 */
    void (*dots)(float *y, const void *a, const void *b, int64_t ld, int64_t rows, int64_t n);
    /* y[n] f32 *= factor */
    void (*scale_f32)(float *y, float factor, int64_t n);
    /* dot product of two act rows, f32 */
    float (*dot)(const void *a, const void *b, int64_t n);
    /* y[i] = x[i] where fold(key, i) >= threshold, else 0 (layers/dropout.h defines fold); act; y may be x.
     */
    void (*drop)(void *y, const void *x, int64_t n, uint32_t key, uint32_t threshold);
    /* y[n] f32 += x[n] f32 */
    void (*add_f32)(float *y, const float *x, int64_t n);

    /* The head. finish_softmax takes a finished tile of logits c[rows, cols] of one panel where finish would
     * store it. softmax_join: log(sum(sum[i] * exp(top[i]))) over n panels. softmax_factors: factor[i] =
     * exp(top[i] - lse) * weight; factor may be top. softmax_scale: p[n] act *= factor[i / 64].
     * softmax_uncap: then, where logits are capped, p[i] (1 / inverse times the softmax of capped logits) *=
     * 1 - (logit / cap)^2. */
    void (*finish_softmax)(const gr_softmax *s, const float *c, int64_t ldc, int64_t m0, int rows, int64_t n0,
                           int cols);
    double (*softmax_join)(const float *top, const float *sum, int64_t n);
    void (*softmax_factors)(float *factor, const float *top, int64_t n, double lse, float weight);
    void (*softmax_scale)(void *p, int64_t n, const float *factor);
    void (*softmax_uncap)(void *p, int64_t n, float lse, float inverse, float cap);
    /* y[out] f32 = W x for one activation row (T = 1, generation): trans product straight from the stored
     * weights. Rows [row0, row0 + nrows). */
    void (*matvec)(float *y, const gr_mat *mat, const void *x, int64_t row0, int64_t nrows);
    /* Keeps the multiply-add units that `tile` uses as busy as they can be, from registers alone; returns the
     * number of floating point operations done. See kernels/peak.h. */
    double (*burst)(int64_t loops);
} gr_kernels;

/* Bytes of a panel of length kc: 64 columns, kc rounded up to pairs. */
static inline size_t gr_panel_bytes(const gr_kernels *k, int64_t kc) {
    return (size_t)(kc + (kc & 1)) * GR_NR * (k->pair ? 2 : 4);
}

/* ------------------------------------------------------------------ choosing a table */

typedef struct gr_isa {
    const char *name;
    bool (*available)(void);                    /* can this processor run it? */
    void (*init)(gr_kernels *table, bool fp32); /* overwrites the entries it has, on top of those below it */
} gr_isa;

/* Every compiled-in instruction set, best first, ended by name == NULL. */
extern const gr_isa gr_isa_table[];

/* Fills `table` for the best available ISA, or the one named (NULL: best). An unknown or unavailable name is
 * GRAFT_USAGE and lists the choices. */
graft_status gr_kernels_init(gr_kernels *table, const char *isa, bool fp32, graft_error *err) GR_MUST_CHECK;

/* ------------------------------------------------------------------ the matmul driver */

/* One product of a sum: x[M, K] times op(w) [K, N]. trans: op(w) = w^T and w is [N, K]; else w is [K, N]. */
typedef struct gr_product {
    const void *x; /* act */
    int64_t ldx;
    const gr_mat *w;   /* or NULL, then w_act */
    const void *w_act; /* act matrix with leading dimension ld_w */
    int64_t ld_w;
    bool trans;
    int64_t k;
    int64_t k_first; /* the sum's first k in w (0: all of w takes part); x starts there already */
} gr_product;

#define GR_MAX_PRODUCTS 8

/* What a matmul runs on: the table, the pool, and per worker one block of scratch. Lives in the context. */
typedef struct gr_compute {
    const gr_kernels *k;
    gr_pool *pool;
    char *scratch;        /* threads * scratch_bytes, 64-byte aligned */
    size_t scratch_bytes; /* per worker; gr_matmul_scratch */
    gr_profile *profile;  /* NULL: nobody asks where the time goes */
} gr_compute;

/* Bytes of scratch one worker needs for gr_matmul: one pass of panels and one task's f32 tile. */
size_t gr_matmul_scratch(const gr_kernels *k);

/* epilogue(sum over products of x op(w)) for an M x N result. Products are summed in the given order, so
 * several weights (dq Wq + dk Wk + dv Wv), and LoRA's low-rank part, share one f32 sum. y must not alias an
 * x. source of the blocking: bench/LOG.md; tile sizes: gr_kernels */
void gr_matmul(const gr_compute *c, int64_t m, int64_t n, const gr_product *products, int nproducts,
               const gr_epilogue *epilogue);

/* y[N] f32 = W x, the driver of matvec: rows over the pool. */
void gr_matvec(const gr_compute *c, float *y, const gr_mat *w, const void *x);

#endif
