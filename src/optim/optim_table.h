/* optim/optim_table.h - optimizers: one row each, over the parameter vector and its list of tensors.
 * May include: base, kernels, graft.h. Never: knows layers.
 *
 * Files: optim_table.c (the rows, those that work element by element), optim_apply.c (layout, gradient's sum,
 * threads), adafactor.c, muon.c.
 */
#ifndef GR_OPTIM_OPTIM_TABLE_H
#define GR_OPTIM_OPTIM_TABLE_H
#include "base/name_list.h"
#include "graft.h"
#include "kernels/kernels.h"

/* Their names: each has a row in optim_table.c. */
#define GR_OPTIM_MAP(X)                                                                                      \
    X(adamw, "adamw") X(adam, "adam") X(sgd, "sgd") X(adafactor, "adafactor") X(muon, "muon")

#define GR_OPTIM_STATES 2
#define GR_OPTIM_WHOLE  (-1)

/* Settings of one run. */
typedef struct gr_optim_config {
    double beta1, beta2, epsilon, weight_decay, momentum, dampening; /* beta1 0 in adafactor: no moment */
    bool nesterov, bias_correction;
    double scale_epsilon, clip_threshold, decay_rate; /* adafactor */
    bool scale_parameter, relative_step, warmup_init;
    int ns_steps; /* muon: iterations of Newton and Schulz */
} gr_optim_config;

/* One trained tensor. Element-wise optimizers see only where it lies and its rate. */
typedef struct gr_optim_tensor {
    int64_t at;         /* first element in the parameter vector */
    int64_t rows, cols; /* row-major; cols 0: a vector of `rows` elements */
    bool transposed;    /* mlx-lm keeps the transpose, and its optimizers work on that */
    bool no_decay;
    double rate;  /* factor on the run's rate (LoRA+); 1 for most */
    int64_t stat; /* set by gr_optim_init: first element of its part of state 0, where that is not a whole
                     vector */
} gr_optim_tensor;

/* Elements that follow each other and have one rate: what element-wise optimizers run over. */
typedef struct gr_optim_span {
    int64_t at, n, first_piece;
    double rate;
    bool no_decay;
} gr_optim_span;

typedef struct gr_optim_row gr_optim_row;

typedef struct gr_optim {
    const gr_optim_row *row;
    gr_optim_config config;
    gr_optim_tensor *tensors; /* owned, in the order of `at` */
    gr_optim_span *spans;     /* owned */
    int64_t count, nspans, pieces;
    int64_t parameters;                    /* of the whole vector */
    int64_t state_floats[GR_OPTIM_STATES]; /* 0: not there */
    /* bound */
    float *state[GR_OPTIM_STATES];
    float *scratch;     /* [scratch_floats] */
    gr_kernels kernels; /* f32, for products of matrices */
    gr_compute compute;
    int64_t scratch_floats;
} gr_optim;

/* One update. `update` counts from 1. grad is the mean gradient, to be taken times `clip`; it may be
 * overwritten. rate and decay are those of the span or tensor at hand. */
typedef struct gr_optim_step {
    const gr_optim *optim;
    float *params, *grad;
    double rate, decay, clip;
    int64_t update;
} gr_optim_step;

struct gr_optim_row {
    const char *name;
    int states;               /* f32 vectors beside the parameters; of their lengths if `floats` is set */
    bool products;            /* needs compute */
    gr_optim_config defaults; /* what holds where no flag and no file says otherwise */
    const char *keys[9];      /* of its mlx-lm optimizer_config; without weight_decay it has none */
    double most_momentum;     /* 0: any */
    /* either: elements [i0, i1) */
    void (*elements)(const gr_optim_step *step, int64_t i0, int64_t i1);
    /* or: a whole tensor. pool NULL: on this thread alone, with the same bits */
    void (*tensor)(const gr_optim_step *step, const gr_optim_tensor *tensor, gr_pool *pool);
    /* of one tensor, or GR_OPTIM_WHOLE: the state is a whole vector */
    int64_t (*floats)(const gr_optim_config *config, const gr_optim_tensor *tensor, int state);
    int64_t (*scratch)(const gr_optim_tensor *tensor); /* floats of scratch; the largest tensor's is taken */
};

/* Ended by name == NULL. */
extern const gr_optim_row gr_optim_table[];
const gr_optim_row *gr_optim_find(const char *name); /* NULL if unknown or NULL */
/* True where the optimizer_config of that row's has the key. */
bool gr_optim_takes(const gr_optim_row *row, const char *key);

/* The run's settings: what the options leave open takes the optimizer's own default. */
gr_optim_config gr_optim_config_of(const graft_options *options);

/* Lays out the states of `count` tensors (copied) inside a vector of `parameters`. GRAFT_RANGE when sizes
 * overflow. isa as in gr_kernels_init. Owned by caller until gr_optim_free. */
graft_status gr_optim_init(gr_optim *optim, const gr_optim_row *row, const gr_optim_config *config,
                           const gr_optim_tensor *tensors, int64_t count, int64_t parameters, const char *isa,
                           graft_error *err) GR_MUST_CHECK;
void gr_optim_free(gr_optim *optim);
/* States and scratch from the arena, or only counted. The pool is borrowed. */
void gr_optim_bind(gr_optim *optim, gr_arena *arena, gr_pool *pool);

/* The rate of an update: the schedule's, or adafactor's own (relative_step). */
double gr_optim_rate(const gr_optim_config *config, double scheduled, int64_t update);

/* grad[n] = (sum of the tree's levels after `rows` rows) / targets; returns its norm. Both in fixed order.
 * grad may be one of them. */
double gr_optim_collect(gr_pool *pool, float *grad, float *const *slots, uint64_t rows, int64_t targets,
                        int64_t n);
/* One update over the pool: params[parameters] from the mean gradient times `clip`. grad is scratch
 * afterwards. The bits do not depend on the number of threads. */
void gr_optim_update(gr_optim *optim, gr_pool *pool, float *params, float *grad, double rate, double clip,
                     int64_t update);

/* Runs task(context, 0 .. count-1) over the pool, or one after the other without. */
void gr_optim_run(gr_pool *pool, gr_task *task, void *context, int64_t count);

/* adafactor.c */
void gr_adafactor_step(const gr_optim_step *step, const gr_optim_tensor *tensor, gr_pool *pool);
/* Row and column means of a matrix, squares of a vector; state 1: the first moment if beta1 > 0. */
int64_t gr_adafactor_floats(const gr_optim_config *config, const gr_optim_tensor *tensor, int state);
/* muon.c */
void gr_muon_step(const gr_optim_step *step, const gr_optim_tensor *tensor, gr_pool *pool);
int64_t gr_muon_scratch(const gr_optim_tensor *tensor);

#endif
