/* graft_plan.h - what a training would do and cost, before it runs.
 */
#ifndef GRAFT_PLAN_H
#define GRAFT_PLAN_H
#include "graft_hooks.h"
#include "graft_options.h"

#ifdef __cplusplus
extern "C" {
#endif

/* One of the 13 layer types of docs/weights.md. */
typedef struct graft_plan_type {
    const char *type;
    bool quantize;      /* some tensor of this type is quantized */
    bool lora;          /* some tensor of this type is adapted */
    const char *frozen; /* "true", "false", "partial" (base frozen, adapter trains) */
    const char *notes;  /* "" if none */
    int64_t tensors, parameters;
    uint64_t bytes;
} graft_plan_type;

/* One tensor of the base, as it will be in the run. Borrowed from the plan. */
typedef struct graft_plan_tensor {
    const char *name; /* as in the model's files, without .weight for linears */
    int64_t shape[2]; /* [out, in]; norms and biases [n, 0] */
    const char *role; /* one of the types */
    bool quantize;
    int bits, group_size; /* 16 or 32 and 0 when not quantized */
    bool adapter;
    int64_t rank;
    const char *frozen;
    uint64_t bytes;
} graft_plan_tensor;

/* Bytes that a process takes, by what for. */
typedef struct graft_memory {
    uint64_t mapped;  /* base weights touched; with no_mmap whole files */
    uint64_t state;   /* adapter, gradients, optimizer */
    uint64_t saved;   /* activations kept for the backward pass */
    uint64_t scratch; /* buffers reused by every layer */
    uint64_t other;   /* program, tokenizer, row index, stacks */
    uint64_t total;
} graft_memory;

/* The guide's layer types. */
#define GRAFT_PLAN_TYPES 13
/* options.pack; all 0 without it. Every epoch has as many packs, as full. */
typedef struct graft_packing {
    int64_t rows, packs; /* rows of the data in packs (rows without a target are in none) */
    int64_t tokens;      /* in all packs */
    int64_t capacity;    /* tokens that one may hold: max-seq-length */
    double percent_full;
} graft_packing;

/* What a training will do and cost. Free it. */
typedef struct graft_plan {
    char *model, *model_type;
    graft_plan_type types[GRAFT_PLAN_TYPES];
    graft_plan_tensor *tensors_list;
    size_t tensors_count;
    int64_t parameters_total, parameters_trainable;
    graft_memory memory;
    graft_memory full;            /* of training every weight in 16 bits with the same settings */
    uint64_t gradients_optimizer; /* gradients and optimizer state, part of memory.state */
    uint64_t full_gradients_optimizer;
    char *grad_checkpoint;                           /* what auto or the budget chose: none, mlp or layer */
    int64_t slice_tokens;                            /* most tokens of one forward and backward */
    int64_t head_tile;                               /* most rows of logits at once */
    int64_t sequence_length, batch_size, iterations; /* batch_size counts packs where there are some */
    graft_packing packing;
    double time_seconds;      /* forecast of the run; 0 when no data was given */
    int64_t time_tokens;      /* tokens that the run will process */
    double tokens_per_second; /* from the calibration */
    char *storage;            /* internal: what the strings above point into */
} graft_plan;

/* Forecasts the training that the options ask for. Weights are not needed, nothing is written. */
graft_status graft_plan_make(const graft_options *options, const graft_hooks *hooks, graft_plan *plan,
                             graft_error *err);
void graft_plan_free(graft_plan *plan);

/* Names of the published shapes, ended by NULL. */
const char *const *graft_shapes(void);

#ifdef __cplusplus
}
#endif
#endif
