/* A run that goes on with another instruction set: in fp32 it stays near, and by how much is measured here.
 * With GRAFT_MODEL and GRAFT_DATA on those instead of a tiny model (tools/kill_test.sh). */
#include "kernels/kernels.h"
#include "tests/tiny_run.h"

typedef struct drift {
    double of_a, of_b, loss; /* |difference| / |value|, of all A, all B, and of the last training loss */
    double worst;            /* largest difference of an element over the largest element */
} drift;

/* How far the adapters of two directories are apart. */
static drift compare(const char *model, const char *a, const char *b) {
    char *x = tiny_join(root, a), *y = tiny_join(root, b);
    gr_model *m = NULL;
    gr_tuning *s = NULL, *t = NULL;
    graft_error err = {0};
    float *p = NULL, *q = NULL;
    if (gr_model_open(&m, model, &err) != GRAFT_OK ||
        gr_adapter_load(&s, &p, x, &m->config, 0, &err) != GRAFT_OK ||
        gr_adapter_load(&t, &q, y, &m->config, 0, &err) != GRAFT_OK)
        fail_msg("%s", err.what);
    double far[2] = {0}, size[2] = {0}, most = 0, worst = 0;
    for (size_t i = 0; i < s->param_count; i++) {
        const gr_param *own = &s->params[i];
        for (int64_t k = own->at; k < own->at + own->rows * own->cols; k++) {
            double difference = (double)p[k] - (double)q[k];
            int kind = own->kind == GR_PARAM_B;
            far[kind] += difference * difference;
            size[kind] += (double)p[k] * (double)p[k];
            worst = fmax(worst, fabs(difference));
            most = fmax(most, fabs((double)p[k]));
        }
    }
    gr_tuning_free(s);
    gr_tuning_free(t);
    gr_model_free(m);
    free(p);
    free(q);
    free(x);
    free(y);
    return (drift){.of_a = sqrt(far[0] / size[0]), .of_b = sqrt(far[1] / size[1]), .worst = worst / most};
}

/* Two orders of a sum of K products differ by about sqrt(K) eps of it where its terms' errors are
 * independent. A gradient comes out of some `sums` of them in a row (a block has about ten forward, twice as
 * many backward), which add up as a walk does; Adam's quotient passes a relative error on. The tiny net, K of
 * at most 264 in two blocks: 16 * 6e-8 * sqrt(60) = 7.5e-6, and 8.4e-7 was measured (portable after AVX-512,
 * B). A real one's K is its vocabulary, and it has tens of blocks. */
static double furthest(bool real) {
    const double k = real ? 50000 : TINY_VOCAB, sums = 30 * (real ? 30 : TINY_LAYERS);
    return sqrt(k) * 0x1p-24 * sqrt(sums);
}

static void other_isa(void **state) {
    (void)state;
    const char *real = getenv("GRAFT_MODEL");
    char *model = real ? strdup(real) : tiny_model_dir(root, "base", &(tiny_spec){.bits = 4});
    char *own = data;
    if (getenv("GRAFT_DATA")) data = getenv("GRAFT_DATA");
    /* a real net at a usual rate; the tiny one at its own */
    const char *const first[] = {"compute", "fp32", "learning-rate", real ? "2e-4" : "5e-3", "overflow",
                                 "drop",    NULL};
    const char *const then[] = {
        "compute", "fp32", "learning-rate", real ? "2e-4" : "5e-3", "overflow", "drop", "resume", "-", NULL};
    const char *best = NULL;
    int others = 0;
    graft_train_result whole = {0};
    for (const gr_isa *isa = gr_isa_table; isa->name; isa++) {
        if (!isa->available() || (real && strcmp(isa->name, "portable") == 0)) continue;
        setenv("GRAFT_ISA", isa->name, 1);
        if (!best) {
            must_train(model, "whole", first, NULL, &whole);
            best = isa->name;
            continue;
        }
        watch w = {0};
        graft_error err = {0};
        graft_train_result part = {0};
        setenv("GRAFT_ISA", best, 1);
        assert_int_equal(train(model, "part", first, &(watch){.stop_after = 3}, NULL, &err),
                         GRAFT_INTERRUPTED);
        setenv("GRAFT_ISA", isa->name, 1);
        must_train(model, "part", then, &w, &part);
        assert_non_null(strstr(w.notes, "the checkpoint was written with"));
        assert_non_null(strstr(w.notes, isa->name));
        drift d = compare(model, "whole", "part");
        d.loss = fabs(part.train_loss - whole.train_loss) / whole.train_loss;
        print_message("%s after %s, fp32: A %.1e, B %.1e, worst element %.1e, loss %.1e\n", isa->name, best,
                      d.of_a, d.of_b, d.worst, d.loss);
        const double most = furthest(real);
        if (!(d.of_a < most && d.of_b < most && d.loss < most))
            fail_msg("%s after %s: further apart than %.1e", isa->name, best, most);
        forget("part");
        others++;
    }
    unsetenv("GRAFT_ISA");
    data = own;
    forget("whole");
    if (real)
        free(model);
    else
        tiny_remove(model);
    if (others) return;
    print_message("skipped: this processor has one instruction set, %s\n", best);
    skip();
}

int main(void) {
    const struct CMUnitTest tests[] = {cmocka_unit_test(other_isa)};
    return cmocka_run_group_tests_name("other_isa", tests, setup, teardown);
}
