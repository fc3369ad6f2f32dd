/* infer/decode_parts.h - what the files of decode's legs share. Nobody else includes it. */
#ifndef GR_INFER_DECODE_PARTS_H
#define GR_INFER_DECODE_PARTS_H
#include "infer/decode.h"

/* A group of linears, and the norm before it. */
typedef struct gr_decode_part {
    gr_decode *d;
    struct gr_decode_layer *layer;
    gr_linear_group g;
    gr_norm norm;   /* without weight: the input is x as it is */
    gr_norm behind; /* .. of what comes out, where branches join by more than a sum */
    const void *x;  /* act [in] */
    int64_t chunk;  /* rows of a task, where it is not a head */
    int64_t number; /* of the part: names the norm that a worker has at hand */
} gr_decode_part;

/* A mixture's legs. */
typedef struct gr_decode_experts {
    gr_decode_part *before, *behind; /* the router's part, whose input is the experts', too; and down's */
    gr_experts e;
    int64_t chunk, chunks; /* rows of gate and up of one task, and tasks of an expert */
    int64_t ranks;         /* of gate and up together */
} gr_decode_experts;

struct gr_decode_layer {
    gr_decode_part part[GR_GROUPS];
    gr_decode_experts experts;
    gr_attend_layer attend;
    gr_rotary q, k;
    int attend_leg; /* of the relay; the join follows */
};

/* What a worker has for itself. */
typedef struct gr_decode_space {
    int64_t *normed; /* number of the token and of the part whose normalized input x is; -1: none */
    void *x;         /* act [hidden] */
    void *act;       /* act [2, 64]: two pieces of a task's rows */
    float *sums;     /* f32 [64] */
    char *panel;     /* of a piece of B; attention's block takes its place */
    size_t bytes;
} gr_decode_space;
gr_decode_space gr_decode_space_of(const gr_decode *d, int worker);

/* The part's input: x, or its norm, which every worker computes for itself: cheaper than waiting for one. */
const void *gr_decode_input(const gr_decode_part *p, int worker);

/* Rows of a task: enough tasks to balance, each at least a few thousand weights. */
int64_t gr_decode_chunk(const gr_decode *d, int64_t rows, int64_t cols);

/* y[n] (f32, n <= 64) += low[rank] B for rows row0 .. of B [rank, out], by the kernels of the batch path. */
void gr_decode_add_low_rank(const gr_decode *d, const gr_mat *b, const void *low, float *y, int64_t row0,
                            int64_t n, const gr_decode_space *space);

/* decode_experts.c: the legs of a mixture, in this order. Their context is a gr_decode_experts.
 * router: a task for each chunk of the part's rows; choose: one task; open_low: a task for each rank of gate
 * and up, for every pick; open: chunks for every pick; close_low: a task for each rank of down, for every
 * pick; close: a task for each chunk of down's rows. */
gr_task gr_decode_router, gr_decode_choose, gr_decode_open_low, gr_decode_experts_open, gr_decode_close_low,
    gr_decode_experts_close;

#endif
