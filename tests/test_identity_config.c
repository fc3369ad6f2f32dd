/* model/identity.c: every number of a config that changes logits, and that no tensor tells, changes the
 * digest; no other does. The table names every field: one more field of a config fails here until it is
 * decided. */
#include "model/identity.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

/* Does it change logits with the same tensors? */
typedef enum effect {
    COUNTS,
    TENSORS, /* the tensors' shapes, or which there are, tell: what is digested of them */
    NOTHING, /* it says how long rows are, or how weights lie */
    PARTS    /* has a table of its own */
} effect;

/* How a field is changed: by the lowest bit of a number, the highest of a double's fraction. */
typedef enum change_of { NUMBER, REAL } change_of;

typedef struct field {
    const char *name;
    size_t at, size;
    effect effect;
    change_of kind;
    unsigned rules; /* of rotation, as bits, that use it */
} field;

#define ALL        ~0u
#define RULE(kind) (1u << (kind))
#define FIELD(type, name, effect, kind, rules)                                                               \
    { #name, offsetof(type, name), sizeof((type *)0)->name, effect, kind, rules }
#define OF_CONFIG(name, effect, kind) FIELD(gr_model_config, name, effect, kind, ALL)
#define OF_ROPE(name, kind, rules)    FIELD(gr_rope_config, name, COUNTS, kind, rules)

static const field config_fields[] = {
    OF_CONFIG(arch, PARTS, NUMBER),           OF_CONFIG(hidden, TENSORS, NUMBER),
    OF_CONFIG(layers, COUNTS, NUMBER),        OF_CONFIG(heads, COUNTS, NUMBER),
    OF_CONFIG(kv_heads, COUNTS, NUMBER),      OF_CONFIG(head_dim, COUNTS, NUMBER),
    OF_CONFIG(mlp, TENSORS, NUMBER),          OF_CONFIG(vocab, TENSORS, NUMBER),
    OF_CONFIG(max_position, NOTHING, NUMBER), OF_CONFIG(experts, COUNTS, NUMBER),
    OF_CONFIG(experts_used, COUNTS, NUMBER),  OF_CONFIG(experts_normed, COUNTS, NUMBER),
    OF_CONFIG(norm_eps, COUNTS, REAL),        OF_CONFIG(tied, COUNTS, NUMBER),
    OF_CONFIG(qkv_bias, TENSORS, NUMBER),     OF_CONFIG(o_bias, TENSORS, NUMBER),
    OF_CONFIG(mlp_bias, TENSORS, NUMBER),     OF_CONFIG(qk_norm, COUNTS, NUMBER),
    OF_CONFIG(activation, COUNTS, NUMBER),    OF_CONFIG(embedding_scale, COUNTS, REAL),
    OF_CONFIG(residual_scale, COUNTS, REAL),  OF_CONFIG(logit_scale, COUNTS, REAL),
    OF_CONFIG(attention_scale, COUNTS, REAL), OF_CONFIG(attention_cap, COUNTS, REAL),
    OF_CONFIG(logit_cap, COUNTS, REAL),       OF_CONFIG(rope, PARTS, NUMBER),
    OF_CONFIG(rotary, COUNTS, NUMBER),        OF_CONFIG(row_limit, NOTHING, NUMBER),
    OF_CONFIG(window, COUNTS, NUMBER),        OF_CONFIG(rope_of, COUNTS, NUMBER),
    OF_CONFIG(bits, NOTHING, NUMBER),         OF_CONFIG(group, NOTHING, NUMBER),
    OF_CONFIG(micro, NOTHING, NUMBER),        OF_CONFIG(quantization, NOTHING, NUMBER),
    OF_CONFIG(columns, NOTHING, NUMBER),
};

#define STRETCHED (RULE(GR_ROPE_LLAMA3) | RULE(GR_ROPE_YARN))
static const field rope_fields[] = {
    OF_ROPE(kind, NUMBER, ALL),
    OF_ROPE(theta, REAL, ALL),
    OF_ROPE(factor, REAL, STRETCHED | RULE(GR_ROPE_LINEAR)),
    OF_ROPE(low_freq_factor, REAL, RULE(GR_ROPE_LLAMA3)),
    OF_ROPE(high_freq_factor, REAL, RULE(GR_ROPE_LLAMA3)),
    OF_ROPE(original_max_position, NUMBER, STRETCHED),
    OF_ROPE(beta_fast, REAL, RULE(GR_ROPE_YARN)),
    OF_ROPE(beta_slow, REAL, RULE(GR_ROPE_YARN)),
    OF_ROPE(fractions, NUMBER, RULE(GR_ROPE_YARN)),
    OF_ROPE(divisor, REAL, RULE(GR_ROPE_LONG)),
    OF_ROPE(magnitude, REAL, ALL),
    OF_ROPE(growth, REAL, ALL),
    OF_ROPE(step, NUMBER, ALL),
};

#define COUNT(table) (sizeof(table) / sizeof *(table))

/* In the order of the struct, without a hole that a field would fit into. */
static void covers(const field *f, size_t count, size_t size) {
    size_t at = 0;
    for (size_t i = 0; i <= count; i++) {
        size_t next = i < count ? f[i].at : size;
        if (next < at || next - at >= 8 || (next > at && next % 4))
            fail_msg("between %s and %s", i ? f[i - 1].name : "the start", i < count ? f[i].name : "the end");
        if (i < count) at = next + f[i].size;
    }
}

static void tables_are_whole(void **state) {
    (void)state;
    covers(config_fields, COUNT(config_fields), sizeof(gr_model_config));
    covers(rope_fields, COUNT(rope_fields), sizeof(gr_rope_config));
}

/* A config in which everything is set; each rotation under the same rule. */
static gr_model_config whole(gr_rope_kind kind) {
    gr_model_config c = {.arch = gr_arch_find("gemma3_text"),
                         .hidden = 64,
                         .layers = 3,
                         .heads = 4,
                         .kv_heads = 2,
                         .head_dim = 16,
                         .mlp = 96,
                         .vocab = 264,
                         .max_position = 512,
                         .experts = 8,
                         .experts_used = 2,
                         .norm_eps = 1e-5,
                         .embedding_scale = 8,
                         .residual_scale = 0.5,
                         .logit_scale = 0.25,
                         .attention_scale = 0.125,
                         .attention_cap = 50,
                         .logit_cap = 30,
                         .rotary = 8,
                         .window = {7, 0, 7},
                         .rope_of = {1, 0, GR_NO_ROPE}};
    for (int r = 0; r < GR_ROPES; r++)
        c.rope[r] = (gr_rope_config){.kind = kind,
                                     .theta = 10000,
                                     .factor = 4,
                                     .low_freq_factor = 1,
                                     .high_freq_factor = 4,
                                     .original_max_position = 128,
                                     .beta_fast = 32,
                                     .beta_slow = 1,
                                     .growth = 0.25,
                                     .step = 9,
                                     .divisor = {1, 2, 3, 4},
                                     .magnitude = 1.5};
    return c;
}

static void change(void *object, const field *f) {
    uint8_t *bytes = (uint8_t *)object + f->at;
    bytes[f->kind == REAL ? 6 : 0] ^= f->kind == REAL ? 0x08 : 1; /* little-endian; of an array, the first */
}

static void fields_count(void **state) {
    (void)state;
    for (gr_rope_kind kind = GR_ROPE_DEFAULT; kind <= GR_ROPE_LONG; kind++) {
        const gr_model_config as_it_was = whole(kind);
        const uint32_t digest = gr_identity_config(&as_it_was);
        gr_model_config c = as_it_was;
        assert_true(gr_identity_config(&c) == digest);
        for (size_t i = 0; i < COUNT(config_fields); i++) {
            const field *f = &config_fields[i];
            if (f->effect == PARTS || f->effect == TENSORS) continue;
            c = as_it_was;
            change(&c, f);
            if ((gr_identity_config(&c) != digest) != (f->effect == COUNTS)) fail_msg("%s", f->name);
        }
        for (size_t i = 0; i < COUNT(rope_fields) * GR_ROPES; i++) {
            const field *f = &rope_fields[i / GR_ROPES];
            c = as_it_was;
            change(&c.rope[i % GR_ROPES], f);
            if (f->rules & RULE(kind) && gr_identity_config(&c) == digest)
                fail_msg("rule %d: rope[%zu].%s", kind, i % GR_ROPES, f->name);
        }
    }
}

/* Every trait that a row of the table has: what no tensor tells counts. */
static void traits_count(void **state) {
    (void)state;
    const unsigned counted = GR_ARCH_ONE_PLUS | GR_ARCH_SANDWICH | GR_ARCH_NORM_BEHIND;
    const unsigned told = /* by fields above, or by tensors */
        GR_ARCH_QKV_BIAS | GR_ARCH_QK_NORM | GR_ARCH_WINDOW | GR_ARCH_LAYER_WINDOW | GR_ARCH_BIAS_OPTION |
        GR_ARCH_WIDE_QK_NORM | GR_ARCH_GEMMA | GR_ARCH_MULTIPLIERS | GR_ARCH_LOCAL_ROPE | GR_ARCH_SOME_ROPE |
        GR_ARCH_PATTERN | GR_ARCH_FUSED | GR_ARCH_PARTIAL | GR_ARCH_LAYER_NORM | GR_ARCH_PLAIN_MLP |
        GR_ARCH_USE_BIAS | GR_ARCH_USE_QKV_BIAS | GR_ARCH_GROWING_QUERIES | GR_ARCH_EXPERTS;
    unsigned all = 0;
    for (const gr_arch *a = gr_arch_table; a->model_type; a++) all |= a->traits;
    if (all & ~(counted | told)) fail_msg("is trait %x told by tensors?", all & ~(counted | told));
    gr_model_config c = whole(GR_ROPE_DEFAULT);
    const uint32_t digest = gr_identity_config(&c);
    for (unsigned bit = 1; bit; bit <<= 1) {
        gr_arch other = *c.arch;
        gr_model_config d = c;
        d.arch = &other;
        other.traits ^= bit;
        if (bit & counted) assert_true(gr_identity_config(&d) != digest);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(tables_are_whole), cmocka_unit_test(fields_count),
                                       cmocka_unit_test(traits_count)};
    return cmocka_run_group_tests_name("identity of configs", tests, NULL, NULL);
}
